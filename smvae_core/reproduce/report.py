"""The report of an experiment: README.md for people, results.json for programs."""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from smvae_core.files import write_atomically
from smvae_core.reproduce.experiments import Experiment
from smvae_core.reproduce.results import TABLE_1, Likelihoods, SystemResult
from smvae_core.subsets import Subset

_INEQUALITIES = (
    "For a discrete y, log p(y) ≤ 0, so that log p(x,y) ≤ log p(x) and log p(x|y) ≥ log p(x,y) for every model. The last "
    "column says whether a row keeps both. The rows that the SMVAE paper publishes for SMVAE itself break both on all "
    "three data sets (and some of its MMVAE and MoPoE rows break one), so they cannot be log-likelihoods of any model "
    "and are no target; they stand here because they are published. Ours keep both by the way they are estimated, from the "
    "same samples: that they do is no merit of a model."
)


def write_report(out: Path, experiment: Experiment, results: Sequence[SystemResult], command: str) -> None:
    """Write both files, atomically.

    Args:
        results: so far.

    Raises:
        OSError: they cannot be written.
    """
    details = [] if experiment.given else _each_sense(results)
    told = [f"# {experiment.title}", f"`{command}`", *sections(experiment, results), *details]
    told.append(_pictures(experiment, results))
    text = "\n\n".join(told)
    write_atomically(out / "README.md", (text + "\n").encode())
    content = {
        "experiment": experiment.name,
        "command": command,
        "results": [result.model_dump(mode="json") for result in results],
        "published": [row._asdict() | {"consistent": row.consistent} for row in TABLE_1.get(experiment.name, ())],
    }
    write_atomically(out / "results.json", (json.dumps(content, indent=2) + "\n").encode())


def sections(experiment: Experiment, results: Sequence[SystemResult]) -> list[str]:
    """Settings and tables, as paragraphs of markdown."""
    tables = _bimodal(experiment, results) if experiment.given else _senses(results)
    return [_settings(experiment, results), *tables, _costs(results)]


def _settings(experiment: Experiment, results: Sequence[SystemResult]) -> str:
    first = results[0]
    settings, model = first.settings, first.settings.configuration.model
    training = settings.configuration.training
    rates = {r.system: r.settings.configuration.training.learning_rate for r in results}
    told = (
        f"{first.data}. {model.size} networks, latent of {model.latent}, {training.epochs} epochs of batches of "
        f"{training.batch_size}, β annealed over {settings.configuration.objective.anneal_epochs}, Adam at "
        f"{', '.join(f'{rate:g} ({system})' for system, rate in rates.items())}, precision {settings.precision}, "
        f"seeds {', '.join(str(s) for s in sorted({r.seed for r in results}))}. Judged: the weights of the last epoch, on "
        f"{first.evaluation.samples} held-out samples"
    )
    if experiment.given:
        told += f", {settings.draws} importance samples each and {settings.prior_draws} of the prior"
    told += f". {first.device}; {', '.join(f'{k} {v}' for k, v in first.versions.items())}; {first.date}."
    if first.quick:
        paper = experiment.paper
        told += (
            f"\n\n**Quick settings, not the paper's**: {training.epochs} epochs instead of {paper.epochs}, "
            f"{model.size} networks, fewer test points and samples. The figures compare the systems with each other "
            "under these settings and say little about what they reach."
        )
    return told


def _bimodal(experiment: Experiment, results: Sequence[SystemResult]) -> list[str]:
    rows = []
    for system, of in _by_system(results):
        for number, likelihoods in enumerate(of[0].likelihoods):
            every = [result.likelihoods[number] for result in of]
            kept = all(row.consistent for row in every)
            rows.append([system, f"q(z|{likelihoods.given})", *_nats(every), "yes" if kept else "**no**"])
    for row in TABLE_1[experiment.name]:
        figures = ["–" if x is None else f"{x:.2f}" for x in (row.joint, row.marginal, row.conditional)]
        kept = {True: "yes", False: "**no**", None: "–"}[row.consistent]
        rows.append([f"*{row.system}, published* ({row.source})", f"q(z|{row.given})", *figures, kept])
    x, y = experiment.given or ("x", "y")
    likelihoods = _table([f"x {x}, y {y}; nats", "drawn from", "log p(x,y)", "log p(x)", "log p(x|y)", "kept"], rows)
    one = results[0].likelihoods[0].joint.error if results[0].likelihoods else 0.0
    spread = _spread_told(results) or f"The standard error over the test points is about {one:.1f}."
    coherent = [
        [system, *(_percent([getattr(r.coherence, key) for r in of if r.coherence]) for key in _COHERENCE)]
        for system, of in _by_system(results)
    ]
    return [
        likelihoods,
        f"{spread} {_INEQUALITIES}",
        _table(["coherence, % right", *_COHERENCE.values()], coherent),
    ]


_COHERENCE = {
    "generated": "x from y, as a classifier sees it",
    "predicted": "y from x",
    "unconditional": "x and y from the prior agree",
    "classifier": "the classifier on real x",
}


def _senses(results: Sequence[SystemResult]) -> list[str]:
    told = [
        "NMSE (mean squared error divided by that of the training mean), averaged over the modalities; below 1 "
        f"something was learned. {_spread_told(results)}".strip(),
        _by_subset("all modalities, predicted from", results, ".3f", lambda result: _nmse(result, None)),
    ]
    if any(result.probes for result in results):
        told += [
            "Linear probes of the latent, fitted on training trajectories and judged on held-out ones: contact of the next "
            + "step, and its pose.",
            _by_subset(
                "contact accuracy, from",
                results,
                ".3f",
                lambda r: {row.subset: row.contact_accuracy for row in r.probes},
            ),
            _by_subset("next-pose MSE × 1e-4, from", results, ".2f", _pose_errors),
        ]
    return told


def _each_sense(results: Sequence[SystemResult]) -> list[str]:
    names = [modality.name for modality in results[0].settings.configuration.model.modalities]
    return [
        "NMSE of each modality:",
        *(
            _by_subset(f"{name}, predicted from", results, ".3f", lambda result, name=name: _nmse(result, name))
            for name in names
        ),
    ]


def _nmse(result: SystemResult, name: str | None) -> dict[Subset, float | None]:
    """Return by subset the NMSE of one modality, or the mean over all; None where no held-out sample has the subset."""
    rows = result.evaluation.subsets
    if name is not None:
        return {row.subset: row.nmse.get(name) for row in rows}
    return {row.subset: statistics.fmean(row.nmse.values()) if row.nmse else None for row in rows}


def _pose_errors(result: SystemResult) -> dict[Subset, float | None]:
    return {row.subset: None if row.pose_mse is None else 1e4 * row.pose_mse for row in result.probes}


def _by_subset(
    title: str,
    results: Sequence[SystemResult],
    shown: str,
    figures: Callable[[SystemResult], dict[Subset, float | None]],
) -> str:
    """A line a subset, a column a system."""
    grouped = [(system, [figures(result) for result in of]) for system, of in _by_system(results)]
    subsets = dict.fromkeys(subset for _, of in grouped for found in of for subset in found)
    lines = [
        [" + ".join(subset), *(_spread([found.get(subset) for found in of], shown) for _, of in grouped)]
        for subset in subsets
    ]
    return _table([title, *(system for system, _ in grouped)], lines)


def _costs(results: Sequence[SystemResult]) -> str:
    rows = [
        [
            system,
            f"{of[0].parameters / 1e6:.2f}",
            _spread([r.training_seconds / 60 for r in of], ".1f"),
            _spread([r.judging_seconds / 60 for r in of], ".1f"),
        ]
        for system, of in _by_system(results)
    ]
    return _table(
        ["cost (by the clock, whatever else ran)", "million weights", "minutes of training", "minutes of judging"], rows
    )


def _pictures(experiment: Experiment, results: Sequence[SystemResult]) -> str:
    names = ["latent", "predictions", *(["conditional"] if experiment.given else ["from_each", "subsets"])]
    lines = []
    for folder in (f"{r.system}-seed{r.seed}" for r in results):
        links = [f"[{name.replace('_', ' ')}]({folder}/{name}.png)" for name in names]
        lines.append(f"- {folder}: {', '.join(links)}, [run]({folder}/)")
    return "Pictures and checkpoints:\n\n" + "\n".join(lines)


def _by_system(results: Iterable[SystemResult]) -> list[tuple[str, list[SystemResult]]]:
    found: dict[str, list[SystemResult]] = {}
    for result in results:
        found.setdefault(result.system, []).append(result)
    return list(found.items())


def _nats(rows: Sequence[Likelihoods]) -> list[str]:
    return [_spread([getattr(row, key).mean for row in rows], ".2f") for key in ("joint", "marginal", "conditional")]


def _percent(parts: Sequence[float]) -> str:
    return _spread([100.0 * part for part in parts], ".1f")


def _spread(values: Sequence[float | None], shown: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = format(statistics.fmean(known), shown)
    return mean if len(known) == 1 else f"{mean} ± {format(statistics.stdev(known), shown)}"


def _spread_told(results: Sequence[SystemResult]) -> str:
    seeds = len({result.seed for result in results})
    return f"Mean and standard deviation over {seeds} seeds." if seeds > 1 else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, *rows)]
    lines.insert(1, ["---"] * len(head))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

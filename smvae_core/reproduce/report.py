"""The report of an experiment: README.md for people, results.json for programs."""

import json
from collections.abc import Sequence
from pathlib import Path

from smvae_core.files import write_atomically
from smvae_core.reproduce import outage_tables, subset_tables
from smvae_core.reproduce.experiments import Experiment
from smvae_core.reproduce.paired import FIGURES, POINTS, Difference, Points, differences, read_points, told
from smvae_core.reproduce.results import TABLE_1, Likelihoods, SystemResult
from smvae_core.reproduce.rows import ROWS
from smvae_core.reproduce.tables import by_row, spread, spread_told, table

_INEQUALITIES = (
    "For a discrete y, log p(y) ≤ 0, so that log p(x,y) ≤ log p(x) and log p(x|y) ≥ log p(x,y) for every model. The "
    "last column says whether a row keeps both. The rows that the SMVAE paper publishes for SMVAE itself break both on "
    "all three data sets (and some of its MMVAE and MoPoE rows break one), so they cannot be log-likelihoods of any "
    "model and are no target; they stand here because they are published. Our rows keep both by the way they are "
    "estimated, from the same samples: that is no merit of a model."
)


def write_report(out: Path, experiment: Experiment, results: Sequence[SystemResult], command: str) -> None:
    """Write README.md and results.json, atomically.

    Args:
        results: so far.

    Raises:
        OSError: they cannot be written.
    """
    found = _differences(out, results) if experiment.given else []
    details = [] if experiment.given else subset_tables.each_modality(results)
    parts = [f"# {experiment.title}", f"`{command}`", *sections(experiment, results, found), *details]
    parts.append(_pictures(out, experiment, results))
    text = "\n\n".join(parts)
    write_atomically(out / "README.md", (text + "\n").encode())
    content = {
        "experiment": experiment.name,
        "command": command,
        "results": [result.model_dump(mode="json") for result in results],
        "differences": [difference.model_dump(mode="json") for difference in found],
        "published": [row._asdict() | {"consistent": row.consistent} for row in TABLE_1.get(experiment.name, ())],
    }
    write_atomically(out / "results.json", (json.dumps(content, indent=2) + "\n").encode())


def sections(experiment: Experiment, results: Sequence[SystemResult], found: Sequence[Difference] = ()) -> list[str]:
    """Return settings and tables, as paragraphs of markdown.

    Args:
        found: paired differences of the rows.
    """
    tables = [*_bimodal(experiment, results), *_paired(found)] if experiment.given else _multimodal(experiment, results)
    return [_settings(experiment, results), *tables, _costs(results)]


def _multimodal(experiment: Experiment, results: Sequence[SystemResult]) -> list[str]:
    off = outage_tables.sections(results) if experiment.outages else []
    return [*off, *subset_tables.sections(results)]


def _differences(out: Path, results: Sequence[SystemResult]) -> list[Difference]:
    """Compare the rows by the test points that stand beside their results."""
    points: dict[str, dict[int, Points]] = {}
    for result in results:
        found = read_points(out / f"{result.row}-seed{result.seed}" / POINTS)
        if found is not None:
            points.setdefault(result.row, {})[result.seed] = found
    return differences(points)


def _paired(found: Sequence[Difference]) -> list[str]:
    if not found:
        return []
    rows = [[difference.row, *(_difference(difference, figure) for figure in FIGURES)] for difference in found]
    return [told(found), table([f"less {found[0].reference}, nats", "log p(x,y)", "log p(x)", "log p(x|y)"], rows)]


def _difference(difference: Difference, figure: str) -> str:
    over_seeds = f" ({difference.spread[figure]:.2f})" if difference.spread else ""
    return f"{difference.mean[figure]:+.2f} ± {difference.error[figure]:.2f}{over_seeds}"


def _settings(experiment: Experiment, results: Sequence[SystemResult]) -> str:
    first = results[0]
    settings, model = first.settings, first.settings.configuration.model
    training = settings.configuration.training
    text = (
        f"{first.data}. {model.size} networks, latent of {model.latent}, {training.epochs} epochs of batches of "
        f"{training.batch_size}, β annealed over {settings.configuration.objective.anneal_epochs}, Adam at "
        f"{training.learning_rate:g}, the same for all; precision {settings.precision}, "
        f"seeds {', '.join(str(s) for s in sorted({r.seed for r in results}))}. Judged: the weights of the last epoch, "
        f"on {first.evaluation.samples} held-out samples"
    )
    if experiment.given:
        text += f", {settings.draws} importance samples each and {settings.prior_draws} of the prior"
    text += f". {first.device}; {', '.join(f'{k} {v}' for k, v in first.versions.items())}; {first.date}."
    if first.quick:
        paper = experiment.paper
        text += (
            f"\n\n**Quick settings, not the paper's**: {training.epochs} epochs instead of {paper.epochs}, "
            f"{model.size} networks, fewer test points and samples. The figures compare the systems with each other "
            "under these settings and say little about what they reach."
        )
    rows = [ROWS[name] for name in dict.fromkeys(r.row for r in results) if name in ROWS and ROWS[name].meaning]
    if rows:
        text += "\n\n" + "; ".join(f"`{row.name}`: {row.meaning}" for row in rows) + "."
    return text


def _bimodal(experiment: Experiment, results: Sequence[SystemResult]) -> list[str]:
    rows = []
    for name, of in by_row(results):
        for every in zip(*(result.likelihoods for result in of)):
            kept = all(one.consistent for one in every)
            rows.append([name, f"q(z|{every[0].given})", *_nats(every), "yes" if kept else "**no**"])
    for row in TABLE_1[experiment.name]:
        figures = ["–" if x is None else f"{x:.2f}" for x in (row.joint, row.marginal, row.conditional)]
        word = {True: "yes", False: "**no**", None: "–"}[row.consistent]
        rows.append([f"*{row.system}, published* ({row.source})", f"q(z|{row.given})", *figures, word])
    x, y = experiment.given or ("x", "y")
    likelihoods = table([f"x {x}, y {y}; nats", "drawn from", "log p(x,y)", "log p(x)", "log p(x|y)", "kept"], rows)
    one = results[0].likelihoods[0].joint.error if results[0].likelihoods else 0.0
    note = spread_told(results) or f"The unpaired standard error over the test points is about {one:.1f}."
    coherent = [
        [name, *(_percent([getattr(r.coherence, key) for r in of if r.coherence]) for key in _COHERENCE)]
        for name, of in by_row(results)
    ]
    return [
        likelihoods,
        f"{note} {_INEQUALITIES}",
        table(["coherence, % right", *_COHERENCE.values()], coherent),
    ]


_COHERENCE = {
    "generated": "x from y, as a classifier sees it",
    "predicted": "y from x",
    "unconditional": "x and y from the prior agree",
    "classifier": "the classifier on real x",
}


def _costs(results: Sequence[SystemResult]) -> str:
    rows = [
        [
            name,
            f"{of[0].parameters / 1e6:.2f}",
            spread([r.training_seconds / 60 for r in of], ".1f"),
            spread([r.judging_seconds / 60 for r in of], ".1f"),
        ]
        for name, of in by_row(results)
    ]
    return table(
        ["cost (by the clock, whatever else ran)", "million weights", "minutes of training", "minutes of judging"], rows
    )


def _pictures(out: Path, experiment: Experiment, results: Sequence[SystemResult]) -> str:
    names = [
        "latent",
        "predictions",
        *(["conditional"] if experiment.given else ["from_each", "from_one", "consecutive", "subsets", "reliability"]),
    ]
    lines = []
    for folder in (f"{r.row}-seed{r.seed}" for r in results):
        drawn = [name for name in names if (out / folder / f"{name}.png").exists()]
        links = [f"[{name.replace('_', ' ')}]({folder}/{name}.png)" for name in drawn]
        lines.append(f"- {folder}: {', '.join(links)}, [run]({folder}/)")
    return "Pictures and checkpoints:\n\n" + "\n".join(lines)


def _nats(rows: Sequence[Likelihoods]) -> list[str]:
    return [spread([getattr(row, key).mean for row in rows], ".2f") for key in ("joint", "marginal", "conditional")]


def _percent(parts: Sequence[float]) -> str:
    return spread([100.0 * part for part in parts], ".1f")

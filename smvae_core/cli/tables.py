"""Tables of figures, as the commands print them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from smvae_core.subsets import in_words

if TYPE_CHECKING:  # torch takes seconds to import; --help does without
    from smvae_core.calibration import Calibration
    from smvae_core.evaluation.judgement import Judgement
    from smvae_core.evaluation.outages import Outages
    from smvae_core.inference.onnx_export import Exported
    from smvae_core.modality import Modality
    from smvae_core.scores import Evaluation, SubsetErrors
    from smvae_core.training.run import Summary
    from smvae_core.trust import TrustFigures


def error_table(rows: Sequence[SubsetErrors], names: Sequence[str]) -> Table:
    """Return NMSE, one line a subset, one column a predicted modality; bold where the subset holds the modality."""
    title = "NMSE: mean squared error divided by that of predicting the training mean (below 1: something was learned)"
    table = Table("predicted from", *names, title=title)
    for row in rows:
        shown = {name: f"{row.nmse[name]:.3f}" if name in row.nmse else "–" for name in names}
        cells = [f"[bold]{shown[name]}[/]" if name in row.subset else shown[name] for name in names]
        table.add_row(in_words(row.subset, names), *cells)
    return table


def likelihood_table(evaluation: Evaluation, names: tuple[str, ...], draws: int) -> Table:
    """Return log p(x_m | set) in nats, one line a subset; bold where the subset holds the modality."""
    title = f"log-likelihood in nats of each modality given the set, by {draws} draw{'s' * (draws > 1)} of the latent"
    table = Table("predicted from", *names, title=title)
    for row in evaluation.subsets:
        nats = {name: f"{row.log_likelihood[name]:.1f}" if name in row.log_likelihood else "–" for name in names}
        cells = (f"[bold]{nats[name]}[/]" if name in row.subset else nats[name] for name in names)
        table.add_row(in_words(row.subset, names), *cells)
    return table


def outage_table(found: Outages) -> Table:
    """Return NMSE against the time since modalities went off: one line a prediction and modality, one column an age."""
    off = " + ".join(found.off)
    title = f"NMSE while {off} is off, against the time since it was last there; {found.starts} outages; the mean has 1"
    if found.forecast_beats_mean:
        told = ", ".join(f"{name} {seconds:g} s" for name, seconds in found.forecast_beats_mean.items())
        title += f"\nthe forecast (memory alone) beats the mean up to: {told}"
    if any(curve.coverage for curve in found.curves):
        title += "\ninside: the part of the entries inside the predicted 50 % and 90 % intervals, on other trajectories"
    table = Table("predicted", "of", *(f"{age:g} s" for age in found.ages), title=title)
    for curve in found.curves:
        for name, nmse in curve.nmse.items():
            table.add_row(curve.prediction, name, *("–" if x is None else f"{x:.3f}" for x in nmse))
        if curve.z2 is not None:
            table.add_row(curve.prediction, "z²", *(f"{x:.2f}" for x in curve.z2), end_section=not curve.coverage)
        for name, shares in curve.coverage.items():
            inside = ("–" if both is None else f"{100 * both[0]:.0f} / {100 * both[1]:.0f}" for both in shares)
            last = name == list(curve.coverage)[-1]
            table.add_row(curve.prediction, f"{name}, inside", *inside, end_section=last)
    return table


def trust_table(figures: TrustFigures) -> Table:
    """Return the part of the faults of each modality that was noticed, and in which it was blamed."""
    title = (
        f"trust on {len(figures.tested_on)} other held-out trajectories: {figures.alarms} with a false alarm in "
        f"{figures.minutes:.0f} minutes;\n{figures.episodes} faults of each modality, of 0.8 s"
    )
    table = Table("faulty", "noticed", "the right one blamed", title=title)
    for name, noticed in figures.noticed.items():
        blamed = figures.blamed[name]
        table.add_row(name, f"{noticed:.0%}", "–" if blamed is None else f"{blamed:.0%}")
    return table


def calibration_table(calibration: Calibration) -> Table:
    """Return one line for each subset: z², KL, and the coverage of the 50 % and 90 % intervals of each modality."""
    names = list(dict.fromkeys(name for row in calibration.subsets for name in row.coverage))
    table = Table(
        "posterior of",
        "z²",
        "KL, nats",
        *names,
        title="calibration: z² (1 is right, above 1 σ is too small), and the part of the entries inside the predicted "
        f"50 % and 90 % intervals;\n{calibration.origin}; "
        f"{calibration.active} of {calibration.latent} dimensions active",
    )
    whole = max((row.subset for row in calibration.subsets), key=len, default=())
    for row in calibration.subsets:
        half, most = (calibration.coverage(row, level) for level in (0.5, 0.9))
        cells = (f"{100 * half[name]:.0f} / {100 * most[name]:.0f}" if name in half else "–" for name in names)
        z2 = "–" if row.z2 is None else f"{row.z2:.2f}"
        table.add_row(in_words(row.subset, whole), z2, f"{row.kl:.1f}", *cells)
    return table


def probe_table(judgement: Judgement) -> Table | None:
    """Return the probes of the latent by subset, and the trivial baselines, for the labels that the data have.

    Returns:
        None for data without labels.
    """
    baselines = judgement.baselines
    rows = [
        (" + ".join(p.subset), (_percent(p.contact_accuracy), _e4(p.pose_mse), _mm2(p.position_mse)))
        for p in judgement.probes
    ]
    trivial = [
        (label, (_percent(contact), _e4(pose), _mm2(position)))
        for label, contact, pose, position in (
            ("always the same answer", baselines.contact_majority, baselines.pose_mean, baselines.position_mean),
            ("as a step before", baselines.contact_previous, baselines.pose_previous, baselines.position_previous),
        )
    ]
    heads = ("contact accuracy", "next-pose MSE × 1e-4", "next-position MSE, mm²")
    known = [n for n in range(len(heads)) if any(figures[n] != "–" for _, figures in (*rows, *trivial))]
    if not known:
        return None
    table = Table("probe of the latent of", *(heads[n] for n in known))
    for part in (rows, trivial):
        for label, figures in part:
            table.add_row(label, *(figures[n] for n in known))
        table.add_section()
    return table


def baseline_table(judgement: Judgement) -> Table:
    """Return the NMSE of repeating the step before, beside that of the model from everything."""
    from smvae_core.scores import normalised

    baselines = judgement.baselines
    # Logs may lack a modality throughout; then "everything" is what they have.
    whole = max(judgement.evaluation.subsets, key=lambda row: (row.samples > 0, len(row.subset)))
    table = Table("NMSE", *baselines.mean)
    before = {name: normalised(error, baselines.mean[name]) for name, error in baselines.previous.items()}
    for label, found in (("from everything", whole.nmse), ("as a step before", before)):
        values = (found.get(name) for name in baselines.mean)
        table.add_row(label, *("–" if value is None else f"{value:.3f}" for value in values))
    return table


def robustness_table(judgement: Judgement) -> Table:
    """Return the NMSE, mean over the modalities, with one modality spoiled, at some of the levels."""
    levels = (0.0, 0.3, 0.6, 0.9)
    table = Table("spoiled", *(f"level {level}" for level in levels), title="NMSE, mean over the modalities")
    found = {
        (p.modality, p.kind, p.level): f"{sum(p.nmse.values()) / len(p.nmse):.3f}" if p.nmse else "–"
        for p in judgement.robustness
    }
    for modality, kind in dict.fromkeys((p.modality, p.kind) for p in judgement.robustness):
        table.add_row(f"{modality}, {kind}", *(found[modality, kind, level] for level in levels))
    return table


def run_table(runs: Sequence[Summary]) -> Table:
    """Return runs with their figures, in the order given."""
    names = list(dict.fromkeys(name for summary in runs for name in summary.full))
    table = Table(
        "run",
        "epochs",
        "samples",
        "mean",
        *names,
        title="held-out NMSE of the best epoch: the mean over the subsets of all, all but one and single modalities, "
        "and each one from everything",
    )
    for run in runs:
        full = [f"{run.full[name]:.3f}" if name in run.full else "–" for name in names]
        epochs = f"{run.epochs}/{run.planned}" + ("" if run.finished else " unfinished")
        table.add_row(escape(run.name), epochs, str(run.samples), f"{run.score:.3f}", *full)
    return table


def modality_table(modalities: Sequence[Modality]) -> Table:
    """Return the modalities of a model with shape, network and likelihood."""
    table = Table("modality", "shape", "network", "likelihood", "λ")
    table.add_column("from", overflow="fold")  # a key that is cut off would be none
    for m in modalities:
        table.add_row(m.name, "×".join(map(str, m.shape)), m.network, m.likelihood, f"{m.weight:g}", m.source)
    return table


def export_table(exported: Exported) -> Table:
    """Return inputs and outputs of an exported graph."""
    table = Table("", "name", "shape (B: batch)")
    for kind, shapes in (("input", exported.inputs), ("output", exported.outputs)):
        for name, shape in shapes.items():
            table.add_row(kind, name, shape)
    return table


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _e4(error: float | None) -> str:
    return "–" if error is None else f"{1e4 * error:.2f}"


def _mm2(error: float | None) -> str:
    return "–" if error is None else f"{1e6 * error:.1f}"

"""The model card of a run, RUN/README.md: what was trained, on what, how well it does, with pictures."""

import numpy as np
import yaml

from smvae_core.calibration import Calibration
from smvae_core.checkpoint import load, read_metadata
from smvae_core.data.formats.protocol import LogError
from smvae_core.data.samples import Samples
from smvae_core.evaluation.outages import outages, picture
from smvae_core.files import write_atomically
from smvae_core.model.vae import MultimodalVAE
from smvae_core.plots.predictions import picture_rows
from smvae_core.plots.reliability import reliability
from smvae_core.plots.sheets import curves, picture_sheet, subset_table
from smvae_core.scores import Evaluation
from smvae_core.training.run import Run, read_metrics
from smvae_core.trust import TrustRecord

_TRAJECTORIES = 8
"""Most held-out trajectories in which sensors are taken away."""


def write_card(run: Run, model: MultimodalVAE, unseen: Samples) -> None:
    """Write the card of a finished run, and its pictures beside it.

    Args:
        model: of `run.best`.
        unseen: held-out samples, for the pictures.

    Raises:
        OSError: the folder cannot be written to.
    """
    metadata, lines = read_metadata(run.best), read_metrics(run.metrics)
    record, metrics = metadata.training, metadata.metrics
    assert record is not None and metrics is not None
    pictures = picture_rows(model, unseen)
    if pictures:
        picture_sheet(run.folder / "predictions.png", pictures, title="held-out samples")
    subset_table(run.folder / "subsets.png", {" + ".join(r.subset): r.nmse for r in metrics.subsets}, model.names)
    epochs = [line["epoch"] for line in lines]
    curves(
        run.folder / "epochs.png",
        {
            "loss (training)": {"": (epochs, [line["training"]["loss"] for line in lines])},
            "KL in nats (training)": {"": (epochs, [line["training"]["kl"] for line in lines])},
            "NMSE (held out)": {"": (epochs, [line["score"] for line in lines])},
        },
        "epoch",
    )
    left_out = (
        f" {len(record.skipped)} log files could not be used: {', '.join(record.skipped)}." if record.skipped else ""
    )
    held_out = f"Held out: {', '.join(record.held_out)}." if record.held_out else "Held out: single steps."
    best = min(lines, key=lambda line: line["score"])
    text = [
        f"# {run.folder.name}",
        f"A {metadata.model.size} {metadata.model.system} model over {', '.join(model.names)}, latent of "
        f"{metadata.model.latent}, written by smvae {metadata.package_version}. `best.safetensors` is the model "
        "to use.",
        "## Data",
        f"{record.samples} training samples of {record.data}. {held_out}{left_out}",
        "## Training",
        f"{lines[-1]['epoch']} epochs in {sum(line['seconds'] for line in lines) / 60:.1f} minutes; the best was epoch "
        f"{best['epoch']}.",
        "```\n" + "\n".join(record.commands) + "\n```",
        "![Loss, KL and held-out figures by epoch](epochs.png)",
        "## Held-out figures",
        f"NMSE: mean squared error divided by that of predicting the training mean, on {metrics.samples} samples; "
        "below 1 something was learned. In brackets log p(x | set) in nats, by one draw.",
        _table(metrics, model.names),
        "![The same as a picture](subsets.png)",
        *(["![What the cameras saw, and what was predicted](predictions.png)"] if pictures else []),
        "## Calibration",
        *_calibration(run, metadata.calibration),
        "## Sensors that are off",
        *_outages(run, model, unseen),
        "## Sensors that lie",
        *_trust(metadata.trust),
        "## Settings",
        "```yaml\n" + yaml.safe_dump(record.configuration.model_dump(mode="json"), sort_keys=False) + "```",
    ]
    write_atomically(run.card, ("\n\n".join(text) + "\n").encode())


def _table(metrics: Evaluation, names: tuple[str, ...]) -> str:
    lines = [["predicted from", *names], ["---"] * (len(names) + 1)]
    for row in metrics.subsets:
        cells = (
            (f"{row.nmse[name]:.3f}" if name in row.nmse else "–") + f" ({row.log_likelihood[name]:.0f})"
            if name in row.log_likelihood
            else "–"
            for name in names
        )
        lines.append([" + ".join(row.subset), *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _outages(run: Run, model: MultimodalVAE, unseen: Samples) -> list[str]:
    """Return the section, and draw the errors by the time since sensors went off beside the card."""
    some = np.unique(unseen.trajectory)[:_TRAJECTORIES]
    few = unseen.select(np.flatnonzero(np.isin(unseen.trajectory, some)))
    training = model.training
    try:
        found = outages(model.eval(), few, load(run.best).mean)
    except LogError:
        return ["Not measured: no held-out trajectory is long enough (7 s)."]
    finally:
        model.train(training)
    picture(found, run.folder / "outages.png")
    columns = {name: [curve.nmse[name] for curve in (found.best, found.of("last value"))] for name in model.names}
    lines = [["seconds", *(f"{name} ({what})" for name in columns for what in ("model", "last value"))]]
    lines.append(["---"] * len(lines[0]))
    for age, seconds in enumerate(found.ages):
        figures = [errors[age] for of in columns.values() for errors in of]
        lines.append([f"{seconds:g}", *("–" if x is None else f"{x:.3f}" for x in figures)])
    z2 = ", ".join(f"{x:.2f}" for x in found.best.z2 or ())
    return [
        f"NMSE while {' + '.join(found.off)} is off, by the seconds since it was there last, {found.best.prediction}, "
        f"and with the last value held, on {found.starts} outages in {len(some)} held-out trajectories. z² at these "
        f"times: {z2}. `smvae evaluate --outages` measures more.",
        "\n".join("| " + " | ".join(line) + " |" for line in lines),
        "![Errors by the time since sensors went off](outages.png)",
    ]


def _trust(record: TrustRecord | None) -> list[str]:
    if record is None:
        return ["They are not noticed: the checkpoint has no trust. `smvae trust` adds it."]
    figures = record.figures
    text = f"Calibrated on {record.samples} sets of {len(record.calibrated_on)} held-out trajectories."
    if figures is None:
        return [text]
    lines = [["faulty", "noticed", "the right one blamed"], ["---"] * 3]
    for name, noticed in figures.noticed.items():
        blamed = figures.blamed[name]
        lines.append([name, f"{noticed:.0%}", "–" if blamed is None else f"{blamed:.0%}"])
    return [
        f"{text} On {len(figures.tested_on)} others: {figures.alarms} with a false alarm in {figures.minutes:.0f} "
        f"minutes; of {figures.episodes} random faults of each modality, of 0.8 s:",
        "\n".join("| " + " | ".join(line) + " |" for line in lines),
    ]


def _calibration(run: Run, calibration: Calibration | None) -> list[str]:
    """Return the section, and draw the reliability curves beside the card."""
    if calibration is None:
        return ["Not measured: too few held-out samples."]
    reliability(run.folder / "reliability.png", calibration)
    names = list(dict.fromkeys(name for row in calibration.subsets for name in row.coverage))
    lines = [["posterior of", "z²", "KL, nats", *names], ["---"] * (len(names) + 3)]
    for row in calibration.subsets:
        half, most = (calibration.coverage(row, level) for level in (0.5, 0.9))
        z2 = "–" if row.z2 is None else f"{row.z2:.2f}"
        covered = (f"{100 * half[name]:.0f} / {100 * most[name]:.0f}" if name in half else "–" for name in names)
        lines.append([" + ".join(row.subset), z2, f"{row.kl:.1f}", *covered])
    return [
        "z² is 1 where σ is right, above 1 where it is too small. The columns of the modalities say how many percent "
        "of their entries lie in the predicted 50 % and 90 % intervals; entries that hardly vary are left out. On "
        f"held-out data: {calibration.origin}; the test part did not choose the best epoch either. No temperature is "
        f"applied. {calibration.active} of {calibration.latent} dimensions of the latent are active.",
        "\n".join("| " + " | ".join(line) + " |" for line in lines),
        "![Reliability curves](reliability.png)",
    ]

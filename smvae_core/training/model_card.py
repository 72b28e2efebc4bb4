"""The model card of a run, RUN/README.md: what was trained, on what, how well it does, with pictures."""

import yaml

from smvae_core.calibration import Calibration
from smvae_core.checkpoint import read_metadata
from smvae_core.data.samples import Samples
from smvae_core.files import write_atomically
from smvae_core.model.vae import MultimodalVAE
from smvae_core.plots.predictions import picture_rows
from smvae_core.plots.reliability import reliability
from smvae_core.plots.sheets import curves, picture_sheet, subset_table
from smvae_core.scores import Evaluation
from smvae_core.training.run import Run, read_metrics


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

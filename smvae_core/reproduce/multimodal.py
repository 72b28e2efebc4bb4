"""Judges one model of an experiment over subsets of modalities: §4.3 and §4.4 of the SMVAE paper."""

from pathlib import Path

import numpy as np

from smvae_core.checkpoint import Checkpoint
from smvae_core.data.formats.protocol import LogError
from smvae_core.data.samples import Samples
from smvae_core.evaluation.calibration import SAMPLES, calibrate
from smvae_core.evaluation.judgement import baselines_of
from smvae_core.evaluation.outages import Outages, outages
from smvae_core.evaluation.prediction_errors import evaluate
from smvae_core.evaluation.probes import ProbeScores, fit_probes, score_probes
from smvae_core.plots.predictions import picture_rows
from smvae_core.plots.reliability import reliability
from smvae_core.plots.sheets import picture_sheet, scatter, subset_table
from smvae_core.reproduce.conditional_samples import consecutive, from_each, from_one
from smvae_core.reproduce.experiments import Scale
from smvae_core.reproduce.latent_map import latent_map
from smvae_core.reproduce.results import Figures
from smvae_core.subsets import all_subsets

_COLUMNS = 8
# Probes only encode, so they use this many times more samples.
_PROBE_SAMPLES = 4


def judged(
    scale: Scale, loaded: Checkpoint, parts: tuple[Samples, Samples], out: Path, with_outages: bool = False
) -> Figures:
    """Measure errors, calibration and probes of all subsets; write pictures to `out`.

    Args:
        parts: the samples trained on, and those held out.
        out: folder of the row.
        with_outages: judge the model while all images are off, too, where trajectories are long enough.
    """
    model, (seen, unseen) = loaded.model, parts
    subsets, most = all_subsets(model.names), scale.test_points
    evaluation = evaluate(model, unseen, loaded.mean, subsets, most)
    calibration = calibrate(model, unseen, min(most or SAMPLES, SAMPLES), subsets) if len(unseen) > 1 else None
    probes: tuple[ProbeScores, ...] = ()
    if not np.isnan(unseen.contact).all():
        more = None if most is None else _PROBE_SAMPLES * most
        probes = score_probes(model, fit_probes(model, seen, subsets, more), unseen, more)
    subset_table(out / "subsets.png", {" + ".join(row.subset): row.nmse for row in evaluation.subsets}, model.names)
    if calibration is not None:
        reliability(out / "reliability.png", calibration)
    _pictures(loaded, unseen, out)
    _map(scale, loaded, unseen, out)
    return Figures(
        evaluation=evaluation,
        calibration=calibration,
        baselines=baselines_of(unseen, unseen, loaded, most),
        probes=probes,
        outages=_outages(loaded, unseen) if with_outages else None,
    )


def _outages(loaded: Checkpoint, unseen: Samples) -> Outages | None:
    """Return the errors while all images are off; None where no trajectory is long enough, as the report says."""
    try:
        return outages(loaded.model, unseen, loaded.mean)
    except LogError:
        return None


def _pictures(loaded: Checkpoint, unseen: Samples, out: Path) -> None:
    """Draw predictions, Fig. 6 (b) and (a), and Fig. 7 (b)."""
    model = loaded.model
    first = model.names[0]
    sheets = {
        "predictions": (picture_rows(model, unseen, _COLUMNS), "held-out samples"),
        "from_each": (from_each(model, unseen, first, _COLUMNS), f"{first} from each other camera"),
        "from_one": (from_one(model, unseen, first, _COLUMNS), f"every other camera from {first} alone"),
        "consecutive": (consecutive(model, unseen, _COLUMNS), "consecutive steps of a held-out trajectory"),
    }
    for name, (rows, title) in sheets.items():
        if rows:
            picture_sheet(out / f"{name}.png", rows, title=title)


def _map(scale: Scale, loaded: Checkpoint, unseen: Samples, out: Path) -> None:
    model = loaded.model
    found = latent_map(model, unseen, [model.names, *((name,) for name in model.names)], scale.map_points)
    contact = unseen.contact[found.samples]
    classes = np.where(np.isnan(contact), 0, 1 + np.nan_to_num(contact)).astype(int)
    panels = {" + ".join(subset): (points, classes) for subset, points in zip(found.subsets, found.points)}
    names = ("unknown", "free", "in contact")
    scatter(out / "latent.png", panels, names, "posterior means by t-SNE, by contact")

"""Judges one system of an experiment over subsets of senses: §4.3 and §4.4 of the SMVAE paper."""

from pathlib import Path

import numpy as np

from smvae_core.checkpoint import Checkpoint
from smvae_core.data.samples import Samples
from smvae_core.evaluation.prediction_errors import evaluate
from smvae_core.evaluation.probes import fit_probes, score_probes
from smvae_core.plots.predictions import picture_rows
from smvae_core.plots.sheets import picture_sheet, scatter, subset_table
from smvae_core.reproduce.conditional_samples import from_each
from smvae_core.reproduce.experiments import Scale
from smvae_core.reproduce.latent_map import latent_map
from smvae_core.subsets import all_subsets

_COLUMNS = 8
# Probes only encode, so that they may use more than what is judged.
_PROBE_SAMPLES = 4


def judged(scale: Scale, loaded: Checkpoint, parts: tuple[Samples, Samples], out: Path) -> dict[str, object]:
    """Errors and probes of all subsets; pictures go to `out`.

    Args:
        parts: trained on, and held out.

    Returns:
        What of `SystemResult` is found out here, by name.
    """
    model, (seen, unseen) = loaded.model, parts
    subsets = all_subsets(model.names)
    evaluation = evaluate(model, unseen, loaded.mean, subsets, scale.test_points)
    probes = ()
    if not np.isnan(unseen.contact).all():
        most = None if scale.test_points is None else _PROBE_SAMPLES * scale.test_points
        probes = score_probes(model, fit_probes(model, seen, subsets, most), unseen, most)
    subset_table(out / "subsets.png", {" + ".join(row.subset): row.nmse for row in evaluation.subsets}, model.names)
    picture_sheet(out / "predictions.png", picture_rows(model, unseen, _COLUMNS), title="held-out samples")
    picture_sheet(out / "from_each.png", from_each(model, unseen, model.names[0], _COLUMNS), title="held-out samples")
    _map(scale, loaded, unseen, out)
    return {"evaluation": evaluation, "probes": probes}


def _map(scale: Scale, loaded: Checkpoint, unseen: Samples, out: Path) -> None:
    model = loaded.model
    found = latent_map(model, unseen, [model.names, *((name,) for name in model.names)], scale.map_points)
    contact = unseen.contact[found.index]
    classes = np.where(np.isnan(contact), 0, 1 + np.nan_to_num(contact)).astype(int)
    panels = {" + ".join(subset): (points, classes) for subset, points in zip(found.subsets, found.points)}
    names = ("unknown", "free", "in contact")
    scatter(out / "latent.png", panels, names, "posterior means by t-SNE, by contact")

"""Judges one model of an image and its label or attributes: Table 1 and Fig. 2 to 5 of the SMVAE paper."""

import math
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from smvae_core.checkpoint import Checkpoint
from smvae_core.data.formats.pictures import ATTRIBUTES
from smvae_core.data.samples import Samples
from smvae_core.evaluation.likelihoods import log_likelihoods
from smvae_core.evaluation.prediction_errors import evaluate
from smvae_core.modality import Modality
from smvae_core.plots.predictions import picture_rows
from smvae_core.plots.sheets import picture_sheet, scatter
from smvae_core.progress import progress_bar
from smvae_core.reproduce.coherence import classifier, coherence
from smvae_core.reproduce.conditional_samples import from_values
from smvae_core.reproduce.experiments import Scale
from smvae_core.reproduce.latent_map import latent_map
from smvae_core.reproduce.paired import FIGURES, POINTS, Points, write_points
from smvae_core.reproduce.results import Figure, Figures, Likelihoods
from smvae_core.subsets import evenly

_COLUMNS = 10
# Number of test points in memory at once.
_TOGETHER = 500
# The attributes that are drawn (Fig. 5), of 18, and the one that colours the map.
_SHOWN = ("Black_Hair", "Blond_Hair", "Eyeglasses", "Male", "Smiling", "Wearing_Hat")
_COLOURED = "Male"


def judged(
    given: tuple[str, str],
    scale: Scale,
    loaded: Checkpoint,
    parts: tuple[Samples, Samples],
    out: Path,
    device: torch.device,
    console: Console,
) -> Figures:
    """Measure likelihoods, coherence and errors; write pictures and the likelihood of each test point to `out`.

    Args:
        given: names of x and y.
        parts: the samples trained on, and those held out.
        out: folder of the row; the classifier, which is the same for all rows, goes beside it.
    """
    model, (seen, unseen) = loaded.model, parts
    by_both, by_x = (_log_likelihoods(loaded, unseen, given, q, scale, console) for q in (given, given[:1]))
    write_points(out / POINTS, by_both)
    epochs = 2 if scale.size == "compact" else 5
    judge = classifier(out.parent / "classifier.safetensors", seen, given, epochs, device, console)
    found = coherence(model, judge, unseen, scale.test_points)
    picture_sheet(out / "predictions.png", picture_rows(model, unseen, _COLUMNS), title="held-out samples")
    values = _values(judge.label)
    rows = from_values(model, given[1], values, given[0], _COLUMNS)
    picture_sheet(out / "conditional.png", rows, title=f"{given[0]} drawn from {given[1]} alone")
    _map(scale, loaded, unseen, judge.label, given, out)
    return Figures(
        likelihoods=(_row("x,y", by_both), _row("x", by_x)),
        coherence=found,
        evaluation=evaluate(model, unseen, loaded.mean, most=scale.test_points),
    )


def _log_likelihoods(
    loaded: Checkpoint,
    unseen: Samples,
    given: tuple[str, str],
    proposal: tuple[str, ...],
    scale: Scale,
    console: Console,
) -> Points:
    """Return the log-likelihoods of each test point, by figure."""
    index = evenly(len(unseen), scale.test_points)
    parts = []
    with progress_bar(console) as bar:
        task = bar.add_task(f"log-likelihoods by q(z|{', '.join(proposal)})", total=len(index), figures="")
        for rows in np.array_split(index, -(-len(index) // _TOGETHER)):
            batch = unseen.batch(rows)[0]
            found = log_likelihoods(
                loaded.model, batch, given[:1], given[1:], proposal, scale.draws, scale.prior_draws, seed=int(rows[0])
            )
            parts.append(torch.stack([estimate.value for estimate in found]).cpu())
            bar.advance(task, len(rows))
    marginal, joint, conditional = torch.cat(parts, dim=1).numpy()
    return {"joint": joint, "marginal": marginal, "conditional": conditional}


def _row(given: str, points: Points) -> Likelihoods:
    joint, marginal, conditional = (
        Figure(mean=float(x.mean()), error=float(x.std(ddof=1) / math.sqrt(len(x))))
        for x in (points[name] for name in FIGURES)
    )
    return Likelihoods(given=given, joint=joint, marginal=marginal, conditional=conditional)


def _values(label: Modality) -> dict[str, Tensor]:
    """Return the values to draw from, a row of pictures each: every class, or some attributes by themselves."""
    size = label.shape[0]
    if label.likelihood == "categorical":
        return {str(number): torch.eye(size)[number] for number in range(size)}
    return {name: torch.eye(size)[ATTRIBUTES.index(name)] for name in _SHOWN}


def _map(scale: Scale, loaded: Checkpoint, unseen: Samples, label: Modality, given: tuple[str, str], out: Path) -> None:
    found = latent_map(loaded.model, unseen, [given, given[:1], given[1:]], scale.map_points)
    truth = unseen.batch(found.samples)[0][label.name]
    if label.likelihood == "categorical":
        classes, names = truth.argmax(dim=1), [str(number) for number in range(label.shape[0])]
    else:
        classes, names = truth[:, ATTRIBUTES.index(_COLOURED)].long(), [f"not {_COLOURED}", _COLOURED]
    panels = {" + ".join(subset): (points, classes.numpy()) for subset, points in zip(found.subsets, found.points)}
    scatter(out / "latent.png", panels, names, f"{loaded.model.configuration.system}: posterior means by t-SNE")

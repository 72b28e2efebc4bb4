"""Predicted intervals: how far an entry (a pixel, a number) may be from its prediction, at several levels.

The interval of an entry around its prediction x̂ has the half-width √(r² + (t·s)²) where the modality is not in the
subset, and √(r² − (n·s)²) where it is: having seen the entry, the model has taken up a part of its noise. s is the
standard deviation of the prediction over draws of the posterior. n and t are the quantiles of the normal distribution
and of Student's t; t where s, which is estimated from few draws, adds to the width. r is the residual scale of the
entry at that level, the same for every subset. It is measured on the calibration part with everything given:
r² = q² + (n·s)², where q is the quantile of |x − x̂|. For a linear-Gaussian model all of this is exact.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm, t
from torch import Tensor

from smvae_core.data.samples import Samples
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.subsets import evenly
from smvae_core.systems.posterior import Posterior

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Levels of the predicted intervals that are measured."""
DRAWS = 8
"""Draws of z for the spread of a prediction, by default."""
_BATCH = 16
# Least half-width of an entry, as a part of r: what an entry that was seen has taken up is only an estimate.
_LEAST = 0.25
# Standard deviation over the calibration part, model units, up to which an entry does not vary.
_CONSTANT = {True: 0.02, False: 1e-6}


class Residual(NamedTuple):
    """The residual of one modality: scales r by level, (levels, D), and which entries vary, (D,)."""

    scale: Tensor
    varies: Tensor


def residual_scales(model: MultimodalVAE, samples: Samples, most: int | None, draws: int) -> dict[str, Residual]:
    """Measure the residuals of each modality from everything, entry by entry."""
    generator = torch.Generator().manual_seed(0)
    seen: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in _continuous(model)}
    for batch, available, embeddings in embedded_batches(model, samples, most):
        predicted, variance = prediction_and_spread(model, model.fuse(embeddings, available), draws, generator)
        for name, parts in seen.items():
            here = available[:, model.names.index(name)]
            error, spread = (x[here].flatten(1).cpu() for x in (predicted[name] - batch[name], variance[name]))
            parts.append((batch[name][here].flatten(1).cpu(), error, spread))
    residuals = {}
    for name, parts in seen.items():
        x, error, squared = (torch.cat(part) for part in zip(*parts))
        if len(x):
            quantiles = torch.from_numpy(np.quantile(error.abs().numpy(), LEVELS, axis=0))
            scale = (quantiles.square() + _normal().square()[:, None] * squared.mean(dim=0)).sqrt()
            residuals[name] = Residual(scale, x.std(dim=0, correction=0) > _CONSTANT[model.modalities[name].is_image])
    return residuals


def half_widths(
    residual: Residual, seen: bool, predicted: Tensor, x: Tensor, variance: Tensor, here: Tensor, draws: int
) -> tuple[Tensor, Tensor]:
    """Return |x − x̂|, (B, D), of the entries that vary, and the half-width of each level, (levels, B, D)."""
    error, squared = (each[here].flatten(1).cpu()[:, residual.varies] for each in (predicted - x, variance))
    change = -_normal().square() if seen else _student(draws).square()
    r = residual.scale[:, None, residual.varies].square()
    width = torch.maximum(r + change[:, None, None] * squared, _LEAST**2 * r).sqrt()
    return error.abs(), width.clamp(min=torch.finfo(torch.float32).tiny)


def prediction_and_spread(
    model: MultimodalVAE, posterior: Posterior, draws: int, generator: torch.Generator
) -> tuple[Batch, Batch]:
    """Predict from μ, and return the variance of the prediction about it over draws of z, by modality (B, *shape)."""
    rows, latent = posterior.mean.shape
    noise = torch.randn(draws, rows, latent, generator=generator).to(posterior.mean)
    z = posterior.sample(noise, torch.rand(draws, rows, generator=generator).to(posterior.mean.device))
    predicted = model.predict(posterior.mean)
    drawn = model.predict(z.flatten(0, 1))
    variance = {
        name: (drawn[name].unflatten(0, (draws, rows)) - x).square().mean(dim=0) for name, x in predicted.items()
    }
    return predicted, variance


def embedded_batches(
    model: MultimodalVAE, samples: Samples, most: int | None
) -> Iterator[tuple[Batch, Tensor, Tensor]]:
    """Yield batches, their availability (B, M) and their embeddings."""
    device = next(model.parameters()).device
    index = evenly(len(samples), most)
    for rows in np.array_split(index, -(-len(index) // _BATCH) or 1):
        if len(rows):
            batch, available = samples.batch(rows)
            batch, available = {name: x.to(device) for name, x in batch.items()}, available.to(device)
            yield batch, available, model.embed(batch, available)


def _normal() -> Tensor:
    """Return the half-width of each level in standard deviations."""
    quantiles: NDArray[np.float64] = norm.ppf(0.5 + np.array(LEVELS) / 2)
    return torch.from_numpy(quantiles)


def _student(draws: int) -> Tensor:
    """Return the half-width of each level in standard deviations that are estimated from so many draws."""
    quantiles: NDArray[np.float64] = t.ppf(0.5 + np.array(LEVELS) / 2, draws)
    return torch.from_numpy(quantiles)


def _continuous(model: MultimodalVAE) -> list[str]:
    """Return the modalities whose predictions have intervals: images and numbers, not labels."""
    return [name for name, m in model.modalities.items() if m.is_image or m.likelihood in ("normal", "laplace")]

"""Calibration: whether σ and predicted intervals say how far off the model is, by subset.

**σ.** The posterior of a subset should cover the posterior of everything: z², the mean of
[(μ_full − μ_S)² + σ_full²] / σ_S², is 1 for the exact posterior, whatever the subset, since the variance given S is the
mean variance given everything plus the variance of the mean given everything.

**Intervals.** Those of `intervals`, widened for each subset and modality by a factor that is fitted on the calibration
part. No temperature is applied: σ is judged as it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smvae_core.calibration import Calibration, SubsetCalibration
from smvae_core.data.samples import Samples
from smvae_core.data.splits import calibration_and_test
from smvae_core.evaluation.intervals import (
    DRAWS,
    LEVELS,
    Residual,
    embedded_batches,
    half_widths,
    prediction_and_spread,
    residual_scales,
)
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.subsets import Subset, evenly, judged_subsets, subset_mask
from smvae_core.systems.posterior import Posterior

ACTIVE = 0.05
"""Mean KL, nats, above which a dimension of the latent is active."""
SAMPLES = 100
"""Most samples of each part, by default."""


def calibrate(
    model: MultimodalVAE,
    samples: Samples,
    most: int | None = SAMPLES,
    subsets: Sequence[Subset] | None = None,
    draws: int = DRAWS,
) -> Calibration:
    """Measure the calibration of a model on samples that it was not trained on; the same input gives the same figures.

    Args:
        model: left in the mode (training or evaluation) that it was in.
        samples: split by trajectory, one half for the residuals and the other for the figures. A single trajectory is
            split in the middle.
        most: use at most so many samples of each half, evenly spaced.
        subsets: by default `judged_subsets`.
        draws: of z, for the spread of predictions.
    """
    subsets = judged_subsets(model.names) if subsets is None else subsets
    fitted_on, tested_on, split = calibration_and_test(samples)
    training = model.training
    model.eval()
    with torch.inference_mode():
        residuals = residual_scales(model, fitted_on, most, draws)
        factors = _factors(model, fitted_on, most, draws, subsets, residuals)
        figures = _figures(model, tested_on, most, draws, subsets, residuals, factors)
    model.train(training)
    return Calibration(
        fitted_on=fitted_on.held,
        tested_on=tested_on.held,
        samples=(len(evenly(len(fitted_on), most)), len(evenly(len(tested_on), most))),
        split=split,
        latent=model.configuration.latent,
        active=int(figures.active.sum()),
        levels=LEVELS,
        subsets=tuple(_row(model, figures, factors, s, subset) for s, subset in enumerate(subsets)),
    )


class _Figures:
    """Sums over the test samples."""

    def __init__(self, subsets: int, modalities: int, latent: int) -> None:
        self.samples = 0
        self.full_kl = torch.zeros(latent, dtype=torch.float64)
        self.held = torch.zeros(subsets, dtype=torch.int64)
        self.kl = torch.zeros(subsets, dtype=torch.float64)
        self.ratio = torch.zeros(subsets, latent, dtype=torch.float64)
        self.entries = torch.zeros(subsets, modalities, dtype=torch.int64)
        self.inside = torch.zeros(subsets, modalities, len(LEVELS), dtype=torch.int64)

    @property
    def active(self) -> Tensor:
        """Which dimensions are active, (L,), bool."""
        return self.full_kl / max(self.samples, 1) > ACTIVE


def _figures(
    model: MultimodalVAE,
    samples: Samples,
    most: int | None,
    draws: int,
    subsets: Sequence[Subset],
    residuals: dict[str, Residual],
    factors: dict[tuple[int, str], Tensor],
) -> _Figures:
    figures = _Figures(len(subsets), len(model.names), model.configuration.latent)
    masks, generator = subset_mask(model.names, subsets), torch.Generator().manual_seed(1)
    for batch, available, embeddings in embedded_batches(model, samples, most):
        full: Posterior = model.fuse(embeddings, available)
        figures.samples += len(available)
        figures.full_kl += _kl(full).sum(dim=0).cpu()
        for s, mask in enumerate(masks):
            found = _of_subset(model, (batch, available, embeddings), mask, residuals, draws, generator)
            if found is None:
                continue
            figures.held[s] += len(found.rows)
            figures.kl[s] += float(found.posterior.kl_to_prior().double().sum())
            mean, log_variance = full.mean[found.rows], full.log_variance[found.rows]
            figures.ratio[s] += _ratio(mean, log_variance, found.posterior).sum(dim=0).cpu()
            for name, (error, width) in found.widths.items():
                m = model.names.index(name)
                figures.entries[s, m] += error.numel()
                if error.numel():
                    widest = width * factors.get((s, name), torch.ones(len(LEVELS)))[:, None, None]
                    figures.inside[s, m] += (error <= widest).flatten(1).sum(dim=1)
    return figures


def _factors(
    model: MultimodalVAE,
    samples: Samples,
    most: int | None,
    draws: int,
    subsets: Sequence[Subset],
    residuals: dict[str, Residual],
) -> dict[tuple[int, str], Tensor]:
    """Fit the factor of each level, (levels,), by subset and modality, on the calibration part."""
    masks, generator = subset_mask(model.names, subsets), torch.Generator().manual_seed(2)
    batches, factors = list(embedded_batches(model, samples, most)), {}
    for s, mask in enumerate(masks):
        ratios: dict[str, list[Tensor]] = {name: [] for name in residuals}
        for batch in batches:
            found = _of_subset(model, batch, mask, residuals, draws, generator)
            for name, (error, width) in found.widths.items() if found else ():
                ratios[name].append((error / width).flatten(1))
        for name, parts in ratios.items():
            if parts and (ratio := torch.cat(parts, dim=1)).numel():
                fitted = [np.quantile(ratio[level].numpy(), LEVELS[level]) for level in range(len(LEVELS))]
                factors[s, name] = torch.tensor(fitted)
    return factors


class _Found(NamedTuple):
    """The predictions from one subset: the samples of a batch that have it, their posterior, and widths by modality."""

    rows: Tensor
    posterior: Posterior
    widths: dict[str, tuple[Tensor, Tensor]]


def _of_subset(
    model: MultimodalVAE,
    item: tuple[Batch, Tensor, Tensor],
    mask: Tensor,
    residuals: dict[str, Residual],
    draws: int,
    generator: torch.Generator,
) -> _Found | None:
    """Predict a batch of `embedded_batches` from the subset of a mask (M,); None if no sample has all of it."""
    batch, available, embeddings = item
    here = mask.to(available.device)
    rows = torch.nonzero((available | ~here).all(dim=1))[:, 0]
    if not len(rows):
        return None
    posterior: Posterior = model.fuse(embeddings[rows], here.expand(len(rows), -1))
    predicted, variance = prediction_and_spread(model, posterior, draws, generator)
    widths = {}
    for name, residual in residuals.items():
        m = model.names.index(name)
        seen, scored = bool(mask[m]), available[rows, m]
        widths[name] = half_widths(residual, seen, predicted[name], batch[name][rows], variance[name], scored, draws)
    return _Found(rows, posterior, widths)


def _row(
    model: MultimodalVAE, figures: _Figures, factors: dict[tuple[int, str], Tensor], s: int, subset: Subset
) -> SubsetCalibration:
    held, active = int(figures.held[s]), figures.active
    return SubsetCalibration(
        subset=subset,
        samples=held,
        z2=float(figures.ratio[s][active].mean()) / held if held and active.any() else None,
        kl=float(figures.kl[s]) / max(held, 1),
        coverage={
            name: tuple((figures.inside[s, m] / figures.entries[s, m]).tolist())
            for m, name in enumerate(model.names)
            if figures.entries[s, m]
        },
        factors={name: tuple(factors[s, name].tolist()) for name in model.names if (s, name) in factors},
    )


def _ratio(mean: Tensor, log_variance: Tensor, posterior: Posterior) -> Tensor:
    """Return [(μ_full − μ_S)² + σ_full²] / σ_S², (B, L), in double precision."""
    mean, variance = mean.double(), log_variance.double().exp()
    return ((mean - posterior.mean).square() + variance) / posterior.log_variance.double().exp()


def _kl(posterior: Posterior) -> Tensor:
    """Return the KL to the prior of each dimension, (B, L), by the moments of the posterior."""
    mean, log_variance = posterior.mean.double(), posterior.log_variance.double()
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)

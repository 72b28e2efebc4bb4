"""Calibration: whether σ and predicted intervals say how far off the model is, by subset.

**σ.** The posterior of a subset should cover the posterior of everything: z², the mean of
[(μ_full − μ_S)² + σ_full²] / σ_S², is 1 for the exact posterior, whatever the subset, since the variance given S is the
mean variance given everything plus the variance of the mean given everything.

**Intervals.** The interval of an entry (a pixel, a number) around its prediction x̂ has the half-width √(r² + (t·s)²)
where the modality is not in the subset, and √(r² − (n·s)²) where it is: having seen the entry, the model has taken up a
part of its noise. s is the standard deviation of the prediction over draws of the posterior. n and t are the quantiles
of the normal distribution and of Student's t; t where s, which is estimated from few draws, adds to the width. r is the
residual scale of the entry at that level, the same for every subset. It is measured on the calibration part with
everything given: r² = q² + (n·s)², where q is the quantile of |x − x̂|. For a linear-Gaussian model all of this is
exact. No temperature is applied: σ is judged as it is.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm, t
from torch import Tensor

from smvae_core.calibration import Calibration, SubsetCalibration
from smvae_core.data.samples import Samples
from smvae_core.data.splits import calibration_and_test
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.subsets import Subset, all_subsets, evenly, subset_mask
from smvae_core.systems.posterior import Posterior

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Levels of the predicted intervals that are measured."""
ACTIVE = 0.05
"""Mean KL, nats, above which a dimension of the latent is active."""
SAMPLES = 100
"""Most samples of each part, by default."""
DRAWS = 8
_BATCH = 16
# Least half-width of an entry, as a part of r: what an entry that was seen has taken up is only an estimate.
_LEAST = 0.25
# Standard deviation over the calibration part, model units, up to which an entry does not vary.
_CONSTANT = {True: 0.02, False: 1e-6}


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
        subsets: by default all.
        draws: of z, for the spread of predictions.
    """
    subsets = all_subsets(model.names) if subsets is None else subsets
    fitted_on, tested_on, split = calibration_and_test(samples)
    training = model.training
    model.eval()
    with torch.inference_mode():
        residuals = _residuals(model, fitted_on, most, draws)
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


class _Residual(NamedTuple):
    """The residual of one modality: scales r by level, (levels, D), and which entries vary, (D,)."""

    scale: Tensor
    varies: Tensor


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


def _batches(model: MultimodalVAE, samples: Samples, most: int | None) -> Iterator[tuple[Batch, Tensor, Tensor]]:
    """Yield batches, their availability (B, M) and their embeddings."""
    device = next(model.parameters()).device
    index = evenly(len(samples), most)
    for rows in np.array_split(index, -(-len(index) // _BATCH) or 1):
        if len(rows):
            batch, available = samples.batch(rows)
            batch, available = {name: x.to(device) for name, x in batch.items()}, available.to(device)
            yield batch, available, model.embed(batch, available)


def _residuals(model: MultimodalVAE, samples: Samples, most: int | None, draws: int) -> dict[str, _Residual]:
    """Measure the residuals of each modality from everything, entry by entry."""
    generator = torch.Generator().manual_seed(0)
    seen: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in _continuous(model)}
    for batch, available, embeddings in _batches(model, samples, most):
        predicted, variance = _spread(model, model.fuse(embeddings, available), draws, generator)
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
            residuals[name] = _Residual(scale, x.std(dim=0, correction=0) > _CONSTANT[model.modalities[name].is_image])
    return residuals


def _figures(
    model: MultimodalVAE,
    samples: Samples,
    most: int | None,
    draws: int,
    subsets: Sequence[Subset],
    residuals: dict[str, _Residual],
    factors: dict[tuple[int, str], Tensor],
) -> _Figures:
    figures = _Figures(len(subsets), len(model.names), model.configuration.latent)
    masks, generator = subset_mask(model.names, subsets), torch.Generator().manual_seed(1)
    for batch, available, embeddings in _batches(model, samples, most):
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
    residuals: dict[str, _Residual],
) -> dict[tuple[int, str], Tensor]:
    """Fit the factor of each level, (levels,), by subset and modality, on the calibration part."""
    masks, generator = subset_mask(model.names, subsets), torch.Generator().manual_seed(2)
    batches, factors = list(_batches(model, samples, most)), {}
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
    """The predictions from one subset: which samples of a batch have it, their posterior, and by modality `_widths`."""

    rows: Tensor
    posterior: Posterior
    widths: dict[str, tuple[Tensor, Tensor]]


def _of_subset(
    model: MultimodalVAE,
    item: tuple[Batch, Tensor, Tensor],
    mask: Tensor,
    residuals: dict[str, _Residual],
    draws: int,
    generator: torch.Generator,
) -> _Found | None:
    """Predict a batch of `_batches` from the subset of a mask (M,); None if no sample has all of it."""
    batch, available, embeddings = item
    here = mask.to(available.device)
    rows = torch.nonzero((available | ~here).all(dim=1))[:, 0]
    if not len(rows):
        return None
    posterior: Posterior = model.fuse(embeddings[rows], here.expand(len(rows), -1))
    predicted, variance = _spread(model, posterior, draws, generator)
    widths = {}
    for name, residual in residuals.items():
        m = model.names.index(name)
        seen, scored = bool(mask[m]), available[rows, m]
        widths[name] = _widths(residual, seen, predicted[name], batch[name][rows], variance[name], scored, draws)
    return _Found(rows, posterior, widths)


def _widths(
    residual: _Residual, seen: bool, predicted: Tensor, x: Tensor, variance: Tensor, here: Tensor, draws: int
) -> tuple[Tensor, Tensor]:
    """Return |x − x̂|, (B, D), of the entries that vary, and the half-width of each level, (levels, B, D)."""
    error, squared = (each[here].flatten(1).cpu()[:, residual.varies] for each in (predicted - x, variance))
    change = -_normal().square() if seen else _student(draws).square()
    r = residual.scale[:, None, residual.varies].square()
    width = torch.maximum(r + change[:, None, None] * squared, _LEAST**2 * r).sqrt()
    return error.abs(), width.clamp(min=torch.finfo(torch.float32).tiny)


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


def _spread(model: MultimodalVAE, posterior: Posterior, draws: int, generator: torch.Generator) -> tuple[Batch, Batch]:
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


def _ratio(mean: Tensor, log_variance: Tensor, posterior: Posterior) -> Tensor:
    """Return [(μ_full − μ_S)² + σ_full²] / σ_S², (B, L), in double precision."""
    mean, variance = mean.double(), log_variance.double().exp()
    return ((mean - posterior.mean).square() + variance) / posterior.log_variance.double().exp()


def _kl(posterior: Posterior) -> Tensor:
    """Return the KL to the prior of each dimension, (B, L), by the moments of the posterior."""
    mean, log_variance = posterior.mean.double(), posterior.log_variance.double()
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)


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

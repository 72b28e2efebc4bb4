"""Coverage of predicted intervals while sensors are off, for each prediction and age.

The intervals are those of `intervals`. As `calibration` does for subsets, a factor for each prediction, age and
modality is fitted on one half of the trajectories; the coverage is of the other half.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smvae_core.data.samples import Samples
from smvae_core.data.splits import calibration_and_test
from smvae_core.evaluation.intervals import DRAWS, LEVELS, Residual, half_widths, prediction_and_spread, residual_scales
from smvae_core.evaluation.outage_moments import FORECAST, HEALTHY, Outage, moments
from smvae_core.model.vae import MultimodalVAE

Coverage = dict[str, tuple[tuple[float, float] | None, ...]]
"""By modality and age: the parts of the entries inside the 50 % and 90 % intervals, None where there is no entry."""

_LEVELS = [LEVELS.index(0.5), LEVELS.index(0.9)]
# Most samples from which the residual scales are measured.
_RESIDUALS = 100
# Entries of a sample, evenly spaced, that a factor is fitted on.
_FITTED_ENTRIES = 512


def coverage(model: MultimodalVAE, samples: Samples, outage: Outage) -> dict[str, Coverage]:
    """Measure the coverage of every prediction that lacks what is off; the same input gives the same figures.

    Args:
        model: in evaluation mode, called inside `torch.inference_mode`.
        samples: whole trajectories.

    Returns:
        By prediction; empty where one half of the trajectories has no outage, since they are too short.
    """
    fitted_on, tested_on, _ = calibration_and_test(samples)
    residuals = residual_scales(model, fitted_on, _RESIDUALS, DRAWS)
    ratios: dict[tuple[str, int, str], list[np.ndarray]] = {}
    for found in _intervals(model, fitted_on, outage, residuals, seed=1):
        error, width = (x[..., :: -(-x.shape[-1] // _FITTED_ENTRIES)] for x in (found.error, found.width))
        ratios.setdefault(found.key, []).append((error / width).flatten(1).numpy())
    factors = {
        key: torch.tensor([np.quantile(ratio, LEVELS[level]) for ratio, level in zip(np.hstack(parts), _LEVELS)])
        for key, parts in ratios.items()
    }
    inside: dict[tuple[str, int, str], Tensor] = {}
    entries: dict[tuple[str, int, str], int] = {}
    for found in _intervals(model, tested_on, outage, residuals, seed=2):
        if found.key in factors:
            within = (found.error <= found.width * factors[found.key][:, None, None]).flatten(1).sum(dim=1)
            inside[found.key] = inside.get(found.key, torch.zeros(2, dtype=torch.int64)) + within
            entries[found.key] = entries.get(found.key, 0) + found.error.numel()
    shares = {key: (float(x[0]) / entries[key], float(x[1]) / entries[key]) for key, x in inside.items()}
    predictions = list(dict.fromkeys(prediction for prediction, _, _ in shares))
    ages = range(len(outage.steps))
    return {
        prediction: {name: tuple(shares.get((prediction, age, name)) for age in ages) for name in residuals}
        for prediction in predictions
    }


class _Intervals(NamedTuple):
    """|x − x̂|, (B, D), and the half-widths of both levels, (2, B, D), of one prediction, age and modality (`key`)."""

    key: tuple[str, int, str]
    error: Tensor
    width: Tensor


def _intervals(
    model: MultimodalVAE, samples: Samples, outage: Outage, residuals: dict[str, Residual], seed: int
) -> Iterator[_Intervals]:
    generator = torch.Generator().manual_seed(seed)
    for moment in moments(model, samples, outage):
        for prediction, posterior in moment.latents.items():
            if prediction in HEALTHY:
                continue
            predicted, variance = prediction_and_spread(model, posterior, DRAWS, generator)
            for name, residual in residuals.items():
                m = model.names.index(name)
                seen = bool(moment.kept[m]) and prediction != FORECAST
                here, x = moment.available[:, m], moment.batch[name].to(predicted[name])
                error, width = half_widths(residual, seen, predicted[name], x, variance[name], here, DRAWS)
                if error.numel():
                    yield _Intervals((prediction, moment.age, name), error, width[_LEVELS])

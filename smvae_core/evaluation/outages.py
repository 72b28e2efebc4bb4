"""Outages: how well every modality is predicted while sensors are off, against the time since they went off.

Four predictions are compared: with memory, without, the last value before the outage, and the mean of the training
part, whose error is 1 by definition. The forecast, from memory alone, is a fifth.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from smvae_core.data.formats.protocol import LogError
from smvae_core.data.samples import Samples
from smvae_core.evaluation.outage_coverage import Coverage, coverage
from smvae_core.evaluation.outage_moments import FORECAST, HEALTHY, WITH, WITHOUT, Outage, moments
from smvae_core.model.memory import MemoryConfiguration
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.plots.sheets import curves
from smvae_core.scores import normalised
from smvae_core.systems.posterior import Posterior

AGES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
# Dimensions of the latent whose mean KL to the prior is smaller say nothing, and do not enter z².
_ACTIVE = 0.05
_HELD = "last value"


class Curve(BaseModel):
    """One prediction against the time since the outage began.

    Attributes:
        prediction: what is predicted from.
        nmse: error of each modality divided by that of the training mean, one for each of `Outages.ages`.
        z2: how far σ of the latent can be trusted, as in `calibration`: 1 is right; None where there is no latent.
        coverage: of the predicted intervals; empty where it was not measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prediction: str
    nmse: dict[str, tuple[float | None, ...]]
    z2: tuple[float, ...] | None = None
    coverage: Coverage = {}


class Outages(BaseModel):
    """Figures of a model while sensors are off.

    Attributes:
        off: modalities that are off.
        ages: seconds since they were last there.
        starts: number of outages.
        curves: of each prediction.
        forecast_beats_mean: by modality, the seconds up to which the forecast's error stays below that of the mean; 0
            for never; empty for a model without memory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    off: tuple[str, ...]
    ages: tuple[float, ...]
    starts: int
    curves: tuple[Curve, ...]
    forecast_beats_mean: dict[str, float]

    @property
    def score(self) -> float:
        """The mean NMSE, over ages and modalities, of the prediction with memory; without, of a model that has none."""
        return float(np.mean([nmse for errors in self.best.nmse.values() for nmse in errors if nmse is not None]))

    @property
    def best(self) -> Curve:
        """The prediction with memory; without, of a model that has none."""
        return next(curve for curve in self.curves if curve.prediction in (WITH, WITHOUT))

    @property
    def healthy(self) -> Curve:
        """The prediction with nothing off, with memory if the model has one."""
        return next(curve for curve in self.curves if curve.prediction in HEALTHY)

    def of(self, prediction: str) -> Curve:
        """Return the curve of one prediction.

        Raises:
            KeyError: there is none of that name.
        """
        for curve in self.curves:
            if curve.prediction == prediction:
                return curve
        raise KeyError(prediction)


def outages(
    model: MultimodalVAE,
    samples: Samples,
    mean: Batch,
    off: Sequence[str] = (),
    ages: Sequence[float] = AGES,
    spacing: float | None = None,
    intervals: bool = False,
) -> Outages:
    """Take modalities away at several moments of every trajectory; the same input gives the same figures.

    Args:
        model: in evaluation mode; one without memory has the curves that need none.
        samples: whole trajectories.
        mean: the trivial prediction by modality, (*shape), of the training part.
        off: modalities that fail together; by default all images.
        ages: seconds, ascending; each is judged at the nearest step.
        spacing: seconds between two steps of the logs; by default as the memory has it, 0.05 without one.
        intervals: measure the coverage of predicted intervals, too, which takes several times as long.

    Raises:
        LogError: an unknown modality, or no trajectory that is long enough.
    """
    off = tuple(off) or tuple(name for name, m in model.modalities.items() if m.is_image) or model.names[:1]
    if unknown := set(off) - set(model.names):
        raise LogError(f"outages: expected modalities among {', '.join(model.names)}, found {', '.join(unknown)}")
    if spacing is None:
        spacing = (model.memory.configuration if model.memory is not None else MemoryConfiguration()).spacing
    # Ages below the spacing, or nearer to each other, are the same step.
    steps = sorted({max(1, round(age / spacing)) for age in ages})
    outage, sums = Outage(off, steps, spacing), _Sums(len(steps), model.names)
    with torch.inference_mode():
        for moment in moments(model, samples, outage):
            sums.starts += len(moment.available) if moment.age == 0 else 0
            for prediction, latent in moment.latents.items():
                predicted = model.predict(latent.mean)
                sums.add(prediction, moment.age, *_errors(model, moment.batch, predicted, mean, moment.available))
                sums.add_latent(prediction, moment.age, moment.whole, latent)
            held = _errors(model, moment.batch, moment.before, mean, moment.available)
            sums.add(_HELD, moment.age, *held)
        measured = coverage(model, samples, outage) if intervals else {}
    if not sums.starts:
        least = outage.least
        raise LogError(
            f"outages: expected a trajectory of at least {least} steps without a gap, {least * spacing:g} s, found "
            "none; record longer ones"
        )
    drawn = sums.curves(measured)
    forecast = next((curve for curve in drawn if curve.prediction == FORECAST), None)
    return Outages(
        off=off,
        ages=tuple(step * spacing for step in steps),
        starts=sums.starts,
        curves=drawn,
        forecast_beats_mean=_horizons(forecast, [step * spacing for step in steps]),
    )


class _Sums:
    """Sums of squared errors by prediction, age and modality, and of what z² needs."""

    def __init__(self, ages: int, names: Sequence[str]) -> None:
        self._names, self._shape, self.starts = tuple(names), (ages, len(names)), 0
        self._errors: dict[str, np.ndarray] = {}
        self._trivial: dict[str, np.ndarray] = {}
        self._squares: dict[str, list[list[np.ndarray]]] = {}
        self._kl: list[np.ndarray] = []

    def add(self, prediction: str, age: int, errors: Tensor, trivial: Tensor) -> None:
        """Add mean squared errors (rows, M), NaN where a row lacks the modality."""
        for sums, x in ((self._errors, errors), (self._trivial, trivial)):
            sums.setdefault(prediction, np.zeros(self._shape))[age] += x.nansum(dim=0).double().cpu().numpy()

    def add_latent(self, prediction: str, age: int, full: Posterior, posterior: Posterior) -> None:
        """Add the latent of a prediction (rows, L), beside that of everything."""
        square = ((full.mean - posterior.mean).square() + full.log_variance.exp()) / posterior.log_variance.exp()
        ages: list[list[np.ndarray]] = [[] for _ in range(self._shape[0])]
        self._squares.setdefault(prediction, ages)[age].append(square.double().cpu().numpy())
        kl = 0.5 * (full.mean.square() + full.log_variance.exp() - 1.0 - full.log_variance)
        self._kl.append(kl.mean(dim=0).double().cpu().numpy())

    def curves(self, measured: dict[str, Coverage]) -> tuple[Curve, ...]:
        """Return the curves in the order in which they were added first, with the coverage that was measured."""
        active = np.mean(self._kl, axis=0) > _ACTIVE if self._kl else np.zeros(0, bool)
        found = []
        for prediction, errors in self._errors.items():
            trivial = self._trivial[prediction]
            squares = self._squares.get(prediction)
            found.append(
                Curve(
                    prediction=prediction,
                    nmse={
                        name: tuple(normalised(float(e), float(t)) for e, t in zip(errors[:, m], trivial[:, m]))
                        for m, name in enumerate(self._names)
                    },
                    z2=None if squares is None else tuple(float(np.concatenate(s)[:, active].mean()) for s in squares),
                    coverage=measured.get(prediction, {}),
                )
            )
        return tuple(found)


def _errors(
    model: MultimodalVAE, batch: Batch, predicted: Batch, mean: Batch, available: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the mean squared errors of a prediction and of the training mean, (rows, M), NaN where absent."""
    columns = [
        [(batch[n] - other.cpu()).flatten(1).square().mean(dim=1) for n in model.names for other in (which[n],)]
        for which in (predicted, mean)
    ]
    errors, trivial = (torch.where(available, torch.stack(x, dim=1), torch.nan) for x in columns)
    return errors, trivial


def _horizons(forecast: Curve | None, ages: Sequence[float]) -> dict[str, float]:
    """Return up to which age each modality's error stays below 1."""
    if forecast is None:
        return {}
    found = {}
    for name, errors in forecast.nmse.items():
        better = [error is not None and error < 1.0 for error in errors]
        until = better.index(False) if False in better else len(better)
        found[name] = ages[until - 1] if until else 0.0
    return found


def picture(found: Outages, path: Path) -> None:
    """Write a PNG with a panel for each modality: NMSE against the time since the outage began."""
    panels = {
        name: {
            curve.prediction: (list(found.ages), [math.nan if x is None else x for x in curve.nmse[name]])
            for curve in found.curves
        }
        | {"mean": (list(found.ages), [1.0] * len(found.ages))}
        for name in found.curves[0].nmse
    }
    curves(path, panels, f"s since {' + '.join(found.off)} went off")

"""Robustness curves after MultiBench (Liang et al. 2021): figures against the degree to which one modality is spoiled.

A modality is spoiled in three ways, each at levels 0 to 0.9. `noise` adds normal noise whose standard deviation is the
level, in model units (images stay within [0, 1]). `drop` sets a fraction of the entries to zero. `missing` takes the
modality out of a fraction of the samples, as a robot does; only there the model is told.
"""

from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor

from smvae_core.data.samples import Samples
from smvae_core.evaluation.probes import Probe, posterior_means
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.scores import ErrorSums, with_old_names
from smvae_core.subsets import evenly

Kind = Literal["noise", "drop", "missing"]
KINDS: tuple[Kind, ...] = ("noise", "drop", "missing")
LEVELS = tuple(level / 10 for level in range(10))


class RobustnessPoint(BaseModel):
    """Figures of the full set with one modality spoiled.

    Attributes:
        modality: the modality that is spoiled.
        kind: how it is spoiled.
        level: 0 for not at all.
        nmse: normalised error of predicting each modality as it was before it was spoiled.
        contact_accuracy: of the probe that was fitted on unspoiled sets; None without one.
        pose_mse: of the same probe.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    modality: str
    kind: Kind
    level: float
    nmse: dict[str, float]
    contact_accuracy: float | None
    pose_mse: float | None

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, record: Any) -> Any:
        return with_old_names(record)


def robustness(
    model: MultimodalVAE, samples: Samples, mean: Batch, probe: Probe | None, most: int | None = None
) -> tuple[RobustnessPoint, ...]:
    """Spoil each modality in each way at each level; the same input gives the same figures.

    Args:
        mean: the trivial prediction by modality, (*shape), of the training part.
        probe: of the full set, for its two figures.
        most: use at most so many samples, evenly spaced.
    """
    index = evenly(len(samples), most)
    points = []
    for column, name in enumerate(model.names):
        for kind in KINDS:
            for level in LEVELS:
                spoil = _Spoiling(model, name, column, kind, level)
                means = posterior_means(model, samples, [model.names], index, spoil)[0]
                scores = (
                    probe.scores(model.names, means, samples.contact[index], samples.pose[index]) if probe else None
                )
                points.append(
                    RobustnessPoint(
                        modality=name,
                        kind=kind,
                        level=level,
                        nmse=_nmse(model, samples, mean, index, means),
                        contact_accuracy=scores.contact_accuracy if scores else None,
                        pose_mse=scores.pose_mse if scores else None,
                    )
                )
    return tuple(points)


class _Spoiling:
    """Changes a batch and its mask; the same random numbers for every model."""

    def __init__(self, model: MultimodalVAE, name: str, column: int, kind: Kind, level: float) -> None:
        self.name, self.column, self.kind, self.level = name, column, kind, level
        self.bounded = model.modalities[name].likelihood == "bernoulli"
        self.generator = torch.Generator().manual_seed(1)

    def __call__(self, batch: Batch, available: Tensor) -> tuple[Batch, Tensor]:
        x = batch[self.name]
        if self.kind == "missing":
            available = available.clone()
            available[:, self.column] &= torch.rand(len(x), generator=self.generator) >= self.level
            return batch, available
        if self.kind == "drop":
            x = x * (torch.rand(x.shape, generator=self.generator) >= self.level)
        else:
            x = x + self.level * torch.randn(x.shape, generator=self.generator)
            x = x.clamp(0.0, 1.0) if self.bounded else x
        return batch | {self.name: x}, available


@torch.inference_mode()
def _nmse(
    model: MultimodalVAE, samples: Samples, mean: Batch, index: np.ndarray, latents: np.ndarray, batch_size: int = 128
) -> dict[str, float]:
    device = next(model.parameters()).device
    sums = ErrorSums(model.names, [model.names])
    for positions in np.array_split(np.arange(len(index)), -(-len(index) // batch_size)):
        batch, available = samples.batch(index[positions])
        predicted = model.predict(torch.from_numpy(latents[positions]).to(device))
        errors, trivial = (
            torch.stack([_mean_square(x - other[name].cpu()) for name, x in batch.items()], dim=1).numpy()
            for other in (predicted, mean)
        )
        held = np.ones((len(positions), 1), bool)
        sums.add(np.where(available.numpy(), errors, np.nan)[:, None], trivial, held)
    return sums.evaluation().subsets[0].nmse


def _mean_square(x: Tensor) -> Tensor:
    return x.flatten(1).double().square().mean(dim=1)

"""Corruption of modalities in training: a model that has seen bad sensors does not trust them.

What a posterior sees is corrupted; what is to be explained stays clean. Everything is in model units.

>>> plan = Plan.draw(available, configuration, model.modalities.values(), generator)
>>> corrupted = plan.apply(batch, model.modalities.values())
"""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from smvae_core.modality import Modality
from smvae_core.model.vae import Batch

Kind = Literal["blank", "partly_blank", "noisy", "shifted", "darkened", "biased", "saturated", "another"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Probabilities(BaseModel):
    """How likely each kind of corruption is; a sample of a modality has at most one.

    Attributes:
        blank: nothing but zeros.
        partly_blank: one half of an image (left, right, upper or lower), one end of a window of a sequence, or some
            entries of a vector are zero.
        noisy: Gaussian noise, σ up to 0.5.
        shifted: moved by up to a quarter of the image or window; zeros move in. A vector has its entries moved.
        darkened: multiplied by a factor between 0 and 0.5.
        biased: a constant for each channel (of a vector, each entry) is added, σ up to 0.5.
        saturated: multiplied by a factor between 2 and 10, and cut off at the largest value of the batch.
        another: the modality of another sample, of those of the batch that this process trains on. A sample without
            another one stays as it is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    blank: float = Field(default=0.0, ge=0.0, le=1.0)
    partly_blank: float = Field(default=0.0, ge=0.0, le=1.0)
    noisy: float = Field(default=0.0, ge=0.0, le=1.0)
    shifted: float = Field(default=0.0, ge=0.0, le=1.0)
    darkened: float = Field(default=0.0, ge=0.0, le=1.0)
    biased: float = Field(default=0.0, ge=0.0, le=1.0)
    saturated: float = Field(default=0.0, ge=0.0, le=1.0)
    another: float = Field(default=0.0, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _at_most_one(self) -> "Probabilities":
        if self.total > 1.0 + 1e-9:
            raise ValueError(f"expected probabilities that add up to at most 1, found {self.total:g}")
        return self

    @property
    def total(self) -> float:
        """The probability that a sample is corrupted."""
        return sum(self.of_each())

    def certain(self) -> "Probabilities":
        """Return the same kinds in the same proportions, one of which always happens; none where there is none."""
        total = self.total
        return self if not total else Probabilities(**{kind: p / total for kind, p in self.model_dump().items()})

    def of_each(self) -> list[float]:
        """Return the probability of each kind, in the order of `KINDS`."""
        return [getattr(self, kind) for kind in KINDS]


class CorruptionConfiguration(BaseModel):
    """The corruption of a run; by default there is none.

    Attributes:
        images: modalities with rows and columns.
        numbers: all others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: Probabilities = Probabilities()
    numbers: Probabilities = Probabilities()

    def of(self, modality: Modality) -> Probabilities:
        """Return the probabilities that hold for a modality."""
        return self.images if modality.is_image else self.numbers

    @property
    def active(self) -> bool:
        """Whether anything is ever corrupted."""
        return self.images.total > 0.0 or self.numbers.total > 0.0


class Corrupted(NamedTuple):
    """A corrupted batch.

    Attributes:
        batch: all modalities of the clean batch; samples that are not corrupted are equal to the clean ones.
        changed: (B, M), bool, on the processor: what is corrupted.
    """

    batch: Batch
    changed: Tensor


class Plan(NamedTuple):
    """The kind of corruption of each modality of each sample of a batch; on the processor.

    Attributes:
        available: what each sample has, (B, M), bool.
        kind: index into `KINDS`, or -1 for none, (B, M).
        seed: of the generator that draws everything else about the corruption, (B, M).
    """

    available: Tensor
    kind: Tensor
    seed: Tensor

    @classmethod
    def draw(
        cls,
        available: Tensor,
        configuration: CorruptionConfiguration,
        modalities: Iterable[Modality],
        generator: torch.Generator,
    ) -> "Plan":
        """Draw a plan.

        Args:
            available: (B, M), bool, on the processor; what is absent is not corrupted.
            modalities: of the columns.
            generator: of the processor; the same state draws the same plan.
        """
        uniform = torch.rand(available.shape, generator=generator, dtype=torch.float64)
        seed = torch.randint(2**62, available.shape, generator=generator)
        bounds = torch.tensor([configuration.of(m).of_each() for m in modalities], dtype=torch.float64).cumsum(dim=1)
        reached = (uniform[:, :, None] >= bounds).sum(dim=2)
        return cls(available, torch.where(available & (reached < len(KINDS)), reached, -1), seed)

    def part(self, rows: slice) -> "Plan":
        """Return the plan of the samples in `rows`."""
        return Plan(*(x[rows] for x in self))

    def apply(self, batch: Batch, modalities: Iterable[Modality]) -> Corrupted:
        """Return a corrupted copy of a batch; the batch itself stays as it is.

        Args:
            batch: the samples of the plan, model units; a modality may be left out.
            modalities: of the columns.
        """
        changed = torch.zeros_like(self.kind, dtype=torch.bool)
        result = dict(batch)
        for column, modality in enumerate(modalities):
            rows = (self.kind[:, column] >= 0).nonzero()[:, 0].tolist()
            if modality.name not in batch or not rows:
                continue
            clean, present = batch[modality.name], self.available[:, column]
            changed[rows, column] = True
            result[modality.name] = clean.clone()
            # By numbers: a mask would make a GPU wait for their count.
            given = present.nonzero()[:, 0].to(clean.device, non_blocking=True)
            samples, position = clean[given], present.cumsum(dim=0) - 1
            for row in rows:
                if len(samples) == 1 and KINDS[int(self.kind[row, column])] == "another":
                    changed[row, column] = False
                    continue
                generator = torch.Generator().manual_seed(int(self.seed[row, column]))
                corrupt = _CORRUPT[KINDS[int(self.kind[row, column])]]
                result[modality.name][row] = corrupt(samples, int(position[row]), generator).to(clean.dtype)
        return Corrupted(result, changed)


# Each takes the samples of one modality, (N, *shape), the one of them that is to be corrupted, and a generator.


def _blank(x: Tensor, row: int, generator: torch.Generator) -> Tensor:
    return torch.zeros_like(x[row])


def _partly_blank(x: Tensor, row: int, generator: torch.Generator) -> Tensor:
    sample = x[row].clone()
    if sample.ndim == 1:
        gone = torch.rand(sample.shape, generator=generator) < 0.5
        return torch.where(gone.to(sample.device), 0.0, sample)
    axis = 1 + _below(sample.ndim - 1, generator)
    half = sample.shape[axis] // 2
    sample.narrow(axis, half * _below(2, generator), half).zero_()
    return sample


def _noisy(x: Tensor, row: int, generator: torch.Generator) -> Tensor:
    sigma = 0.5 * torch.rand((), generator=generator)
    noise = torch.randn(x[row].shape, generator=generator) * sigma
    return _within(x, x[row] + noise.to(x.device))


def _shifted(x: Tensor, row: int, generator: torch.Generator) -> Tensor:
    sample = x[row]
    for axis in range(1 if sample.ndim > 1 else 0, sample.ndim):
        length = sample.shape[axis]
        by = _below(2 * (length // 4) + 1, generator) - length // 4
        sample = sample.roll(by, axis)
        sample.narrow(axis, 0 if by > 0 else length + by, abs(by)).zero_()
    return sample


def _darkened(x: Tensor, row: int, generator: torch.Generator) -> Tensor:
    return x[row] * (0.5 * float(torch.rand((), generator=generator)))


def _biased(x: Tensor, row: int, generator: torch.Generator) -> Tensor:
    sample = x[row]
    sigma = 0.5 * torch.rand((), generator=generator)
    bias = torch.randn(sample.shape[0], generator=generator) * sigma
    return _within(x, sample + bias.to(x.device).view(-1, *[1] * (sample.ndim - 1)))


def _saturated(x: Tensor, row: int, generator: torch.Generator) -> Tensor:
    gain = 2.0 + 8.0 * float(torch.rand((), generator=generator))
    limit = x.abs().max()
    return (gain * x[row]).clamp(-limit, limit)


def _another(x: Tensor, row: int, generator: torch.Generator) -> Tensor:
    return x[(row + 1 + _below(len(x) - 1, generator)) % len(x)]


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def _within(x: Tensor, sample: Tensor) -> Tensor:
    """Return an image within [0, 1]; other modalities have no such range."""
    return sample.clamp(0.0, 1.0) if x.ndim == 4 else sample


_CORRUPT: dict[Kind, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "blank": _blank,
    "partly_blank": _partly_blank,
    "noisy": _noisy,
    "shifted": _shifted,
    "darkened": _darkened,
    "biased": _biased,
    "saturated": _saturated,
    "another": _another,
}

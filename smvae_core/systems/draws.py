"""What is random in a training step: which modalities each term of the bound sees, and the noise of its latent.

A system's bound is a sum of terms. Each has a posterior of some subset of what the sample has, one z drawn from it, and
modalities that this z is to explain.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.smvae import System


class Draws(NamedTuple):
    """For T terms and the B samples of a batch; on the processor.

    Attributes:
        subsets: (T, B, M), bool, what each posterior sees; a sample that lacks a term's modalities has an empty one.
        targets: (T, B, M), bool, what each z is to explain.
        explains: (T, M), bool, what it is to explain in a sample that has everything, whatever was drawn.
        noise: ε of Eq. 6, (T, B, L).
    """

    subsets: Tensor
    targets: Tensor
    explains: Tensor
    noise: Tensor

    def part(self, rows: slice) -> "Draws":
        """Those of some samples."""
        return Draws(self.subsets[:, rows], self.targets[:, rows], self.explains, self.noise[:, rows])

    def to(self, device: torch.device) -> "Draws":
        """On another device, but for `explains`, which the processor alone looks at."""
        subsets, targets, noise = (x.to(device, non_blocking=True) for x in (self.subsets, self.targets, self.noise))
        return Draws(subsets, targets, self.explains, noise)


def draw(
    system: System,
    config: ObjectiveConfiguration,
    available: Tensor,
    latent: int,
    names: Sequence[str],
    generator: torch.Generator,
) -> Draws:
    """All that is random in a step.

    Args:
        available: what each sample has, (B, M), bool, on the processor.
        latent: L.
        names: modalities of the columns.
        generator: of the processor; the same state draws the same.
    """
    subsets, targets, explains = _TERMS[system](config, available, names, generator)
    noise = torch.randn(*subsets.shape[:2], latent, generator=generator)
    return Draws(subsets, targets, explains, noise)


def random_subsets(
    available: Tensor, config: ObjectiveConfiguration, generator: torch.Generator, names: Sequence[str] | None = None
) -> Tensor:
    """X_s ~ P(X) for each row (Eq. 4 of the SMVAE paper), never empty where the row has anything: (B, M), bool.

    Args:
        available: (B, M), bool, on the processor.
        generator: of the processor; the same state draws the same subsets.
        names: modalities of the columns; needed where `config.keep` names some.
    """
    rows, columns = available.shape
    probability = torch.tensor(config.keep) if names is None else config.keep_of(names)
    keep = torch.rand(rows, columns, generator=generator) < probability
    full = torch.rand(rows, 1, generator=generator) < config.full_set
    subset = available & (keep | full)
    # A row that drew nothing keeps one modality of its own, each equally likely.
    chosen = torch.rand(rows, columns, generator=generator).masked_fill(~available, -1.0).argmax(dim=1, keepdim=True)
    one = torch.zeros_like(available).scatter(1, chosen, True) & available
    return torch.where(subset.any(dim=1, keepdim=True), subset, one)


def uniform_subsets(available: Tensor, generator: torch.Generator) -> Tensor:
    """One of each row's 2^n - 1 non-empty subsets of what it has, each equally likely: (B, M), bool.

    Args:
        available: (B, M), bool, on the processor.
        generator: of the processor; the same state draws the same subsets.
    """
    uniform = torch.rand(available.shape, generator=generator, dtype=torch.float64)
    # Column after column: one half, but 2^(r-1) / (2^r - 1) of r that are left while nothing is kept yet, since then
    # one of the 2^r sets of the rest is out of the question.
    left = available.double().flip(1).cumsum(dim=1).flip(1)
    first = 0.5 / (1.0 - 0.5**left)
    subset, kept = torch.zeros_like(available), torch.zeros(len(available), dtype=torch.bool)
    for column in range(available.shape[1]):
        chance = torch.where(kept, 0.5, first[:, column])
        subset[:, column] = available[:, column] & (uniform[:, column] < chance)
        kept = kept | subset[:, column]
    return subset


_Terms = tuple[Tensor, Tensor, Tensor]


def _smvae(
    config: ObjectiveConfiguration, available: Tensor, names: Sequence[str], generator: torch.Generator
) -> _Terms:
    subset = random_subsets(available, config, generator, names)
    targets = available if config.reconstruct == "available" else subset
    return subset[None], targets[None], _everything(available)


def _mvae(
    config: ObjectiveConfiguration, available: Tensor, names: Sequence[str], generator: torch.Generator
) -> _Terms:
    """Everything, each modality alone, and k random subsets; each explains what it saw."""
    drawn = [uniform_subsets(available, generator) for _ in range(config.random_subsets)]
    subsets = torch.cat([available[None], _singles(available), *(subset[None] for subset in drawn)])
    everything = _everything(available)
    explains = torch.cat([everything, _each(available), everything.expand(len(drawn), -1)])
    return subsets, subsets, explains


def _mmvae(
    config: ObjectiveConfiguration, available: Tensor, names: Sequence[str], generator: torch.Generator
) -> _Terms:
    """Each modality alone explains everything."""
    subsets = _singles(available)
    targets = subsets.any(dim=2, keepdim=True) & available
    return subsets, targets, _everything(available).expand(len(subsets), -1)


def _mopoe(
    config: ObjectiveConfiguration, available: Tensor, names: Sequence[str], generator: torch.Generator
) -> _Terms:
    """One component of the mixture, drawn with its weight, explains everything: its bound is linear in them."""
    return uniform_subsets(available, generator)[None], available[None], _everything(available)


def _jmvae(
    config: ObjectiveConfiguration, available: Tensor, names: Sequence[str], generator: torch.Generator
) -> _Terms:
    return available[None], available[None], _everything(available)


def _crmvae(
    config: ObjectiveConfiguration, available: Tensor, names: Sequence[str], generator: torch.Generator
) -> _Terms:
    """Everything explains everything, and each modality itself."""
    subsets = torch.cat([available[None], _singles(available)])
    return subsets, subsets, torch.cat([_everything(available), _each(available)])


def _everything(available: Tensor) -> Tensor:
    return torch.ones(1, available.shape[1], dtype=torch.bool)


def _each(available: Tensor) -> Tensor:
    return torch.eye(available.shape[1], dtype=torch.bool)


def _singles(available: Tensor) -> Tensor:
    return _each(available)[:, None] & available


_TERMS: dict[System, Callable[[ObjectiveConfiguration, Tensor, Sequence[str], torch.Generator], _Terms]] = {
    "smvae": _smvae,
    "mvae": _mvae,
    "mmvae": _mmvae,
    "mopoe": _mopoe,
    "jmvae": _jmvae,
    "crmvae": _crmvae,
}

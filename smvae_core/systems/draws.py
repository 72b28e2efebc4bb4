"""All that is random in a training step: which modalities each term of the bound sees, and the noise of its latent.

A system's bound is a sum of terms. Each has a posterior of some subset of what the sample has, one z drawn from it, and
modalities that this z is to explain. Masks have the modalities as columns; all of this happens on the processor.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(eq=False)
class Draws:
    """The random choices for T terms and the B samples of a batch.

    Not a tuple: DistributedDataParallel moves the tensors of tuples to the GPU and waits for each of them.

    Attributes:
        subsets: (T, B, M), bool, what each posterior sees; a sample that lacks a term's modalities has an empty one.
            Of a model with memory (T, B, M + 1): the last column says whether memory is in the set.
        targets: (T, B, M), bool, what each z is to explain.
        explains: (T, M), bool, what it is to explain in a sample that has everything, whatever was drawn.
        noise: ε of Eq. 6 of the SMVAE paper, (T, B, L).
        clean: terms whose posteriors see the modalities as they are, where training corrupts them for the others.
    """

    subsets: Tensor
    targets: Tensor
    explains: Tensor
    noise: Tensor
    clean: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        subsets: Tensor,
        targets: Tensor,
        explains: Tensor,
        latent: int,
        generator: torch.Generator,
        clean: tuple[int, ...] = (),
    ) -> "Draws":
        """Return draws with the noise still to be drawn, of `latent` dimensions."""
        return cls(subsets, targets, explains, torch.randn(*subsets.shape[:2], latent, generator=generator), clean)

    def with_memory(self, column: Tensor) -> "Draws":
        """Return the draws with memory in the sets that `column` (T, B), bool, names."""
        return replace(self, subsets=torch.cat([self.subsets, column[:, :, None]], dim=2))

    def part(self, rows: slice) -> "Draws":
        """Return the draws of the samples in `rows`."""
        return replace(self, subsets=self.subsets[:, rows], targets=self.targets[:, rows], noise=self.noise[:, rows])

    def to(self, device: torch.device) -> "Draws":
        """Return the draws on another device, except `explains`, which only the processor reads."""
        subsets, targets, noise = (x.to(device, non_blocking=True) for x in (self.subsets, self.targets, self.noise))
        return replace(self, subsets=subsets, targets=targets, noise=noise)


def uniform_subsets(available: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one of each row's 2^n - 1 non-empty subsets of what it has, each equally likely: (B, M), bool.

    Args:
        available: (B, M), bool.
        generator: the same state draws the same subsets.
    """
    uniform = torch.rand(available.shape, generator=generator, dtype=torch.float64)
    # Column after column. With r columns left and one kept before, each is kept with 1/2. With none kept before, the
    # empty rest is excluded: 2^(r-1) of the 2^r - 1 possible rests keep the column.
    left = available.double().flip(1).cumsum(dim=1).flip(1)
    first = 0.5 / (1.0 - 0.5**left)
    subset, kept = torch.zeros_like(available), torch.zeros(len(available), dtype=torch.bool)
    for column in range(available.shape[1]):
        chance = torch.where(kept, 0.5, first[:, column])
        subset[:, column] = available[:, column] & (uniform[:, column] < chance)
        kept = kept | subset[:, column]
    return subset


def singles(available: Tensor) -> Tensor:
    """Return the subsets of each modality alone, empty where a sample lacks it: (M, B, M), bool."""
    return each_alone(available)[:, None] & available


def everything(available: Tensor) -> Tensor:
    """Return `Draws.explains` of one term that explains every modality: (1, M), bool."""
    return torch.ones(1, available.shape[1], dtype=torch.bool)


def each_alone(available: Tensor) -> Tensor:
    """Return `Draws.explains` of M terms that explain one modality each: (M, M), bool."""
    return torch.eye(available.shape[1], dtype=torch.bool)

"""What one of the papers' models consists of. Each file of a system ends with its `SYSTEM`, an instance of this."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.draws import Draws
from smvae_core.systems.terms import Step, Terms

Network = TypeVar("Network", bound=nn.Module)
Settings = TypeVar("Settings", bound=ObjectiveConfiguration)


@dataclass(frozen=True)
class System(Generic[Network, Settings]):
    """A posterior of any set, and the bound that trains it.

    Attributes:
        settings: the class of its section `objective` in the configuration.
        network: builds the posterior network from the modalities' names (in the order of the mask's columns), the width
            of an embedding, the dimensions of the latent and the number of attention heads. The network takes
            embeddings (B, M, d) of sets and their masks (..., B, M) to a `Posterior`. Last comes whether the sets have
            memory, as one more column behind those of the modalities.
        draw: draws all that is random in a training step, from the settings, what each sample has (B, M), the
            dimensions of the latent, the modalities' names and a generator (of the processor; the same state draws the
            same).
        terms: computes the terms of the bound for one step.
        memory: adds the memory's column to draws, from the settings, the draws, which samples remember something (B,),
            the degraded sets that memory itself sees (B, M), and a generator as above. A system that cannot have memory
            has the reason instead.
    """

    settings: type[Settings]
    network: Callable[[Sequence[str], int, int, int, bool], Network]
    draw: Callable[[Settings, Tensor, int, Sequence[str], torch.Generator], Draws]
    terms: Callable[[Network, Step, Settings], Terms]
    memory: Callable[[Settings, Draws, Tensor, Tensor, torch.Generator], Draws] | str

"""Memory: what a model knows of the sets before, as one more member of the set. docs/set-model.md derives it.

>>> state = model.memory.start(rows=1)
>>> posterior, state = model.step(batch, mask, state, elapsed)      # elapsed: seconds since the set before, (B,)
"""

from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from torch import Tensor, nn

from smvae_core.systems.posterior import Posterior, at_least_single

# Numbers that describe the time since the set before.
_TIME = 2
# At the start of a training the update gate keeps about three quarters of what it holds.
_KEEP = 1.0


class MemoryConfiguration(BaseModel):
    """The settings of a memory.

    Attributes:
        size: numbers in the state h.
        horizon: seconds; after a longer time without a set everything is forgotten.
        spacing: nominal seconds between two sets, the unit of time; in training, the time between two steps of a log.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: PositiveInt = 256
    horizon: PositiveFloat = 10.0
    spacing: PositiveFloat = 0.05


class MemoryState(NamedTuple):
    """The memory after a set, one state for each row of a batch. Rows do not influence each other.

    Attributes:
        hidden: h, float32 (B, H).
        present: (B,), bool; where it is False, nothing is remembered and `hidden` is not read.
    """

    hidden: Tensor
    present: Tensor

    def detach(self) -> "MemoryState":
        """Return the same state as a constant."""
        return MemoryState(self.hidden.detach(), self.present)


class Remembered(NamedTuple):
    """A state as a member of the next set.

    Attributes:
        embedding: (B, d).
        present: (B,), bool, whether there is anything to remember.
    """

    embedding: Tensor
    present: Tensor


class Memory(nn.Module):
    """A gated recurrent unit (Cho et al. 2014) over the posteriors of the sets, and an embedding of its state.

    What is written to the state has a part that is linear in the posterior: to keep what was seen is learned sooner.

    Attributes:
        configuration: as given.

    Args:
        modalities: columns of the availability masks.
        embedding: width d of the embeddings of the set.
        latent: dimensions of z.
    """

    def __init__(self, configuration: MemoryConfiguration, modalities: int, embedding: int, latent: int) -> None:
        super().__init__()
        self.configuration = configuration
        size = configuration.size
        self.embedding = nn.Sequential(
            nn.Linear(size + _TIME, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.input = nn.Linear(2 * latent + modalities + _TIME, 3 * size)
        self.direct = nn.Linear(2 * latent + modalities + _TIME, size)
        self.recurrent = nn.Linear(size, 3 * size)
        with torch.no_grad():
            self.input.bias[size : 2 * size] += _KEEP

    def start(self, rows: int) -> MemoryState:
        """Return the state in which nothing is remembered, on the device of the weights."""
        weight = self.recurrent.weight
        hidden = torch.zeros(rows, self.configuration.size, device=weight.device)
        return MemoryState(hidden, torch.zeros(rows, dtype=torch.bool, device=weight.device))

    def remembers(self, state: MemoryState, elapsed: Tensor) -> Tensor:
        """Return the rows (B,), bool, whose state counts: present, and not older than the horizon.

        Args:
            elapsed: seconds since the state was made, (B,). Negative or NaN forgets too.
        """
        return state.present & (elapsed >= 0.0) & (elapsed <= self.configuration.horizon)

    def embed(self, state: MemoryState, elapsed: Tensor) -> Tensor:
        """Return the embedding of the state, aged by `elapsed`, (B, d); of rows that are not remembered, any number."""
        hidden, time = self._aged(state, elapsed)
        embedding: Tensor = self.embedding(torch.cat([hidden, time], dim=1).to(self.recurrent.weight.dtype))
        return embedding

    def recall(self, state: MemoryState, elapsed: Tensor) -> Remembered:
        """Return the state as a member of the set that follows it after `elapsed` seconds (B,)."""
        return Remembered(self.embed(state, elapsed), self.remembers(state, elapsed))

    def advance(self, state: MemoryState, elapsed: Tensor, posterior: Posterior, mask: Tensor) -> MemoryState:
        """Return the state after a set.

        A row that remembers nothing starts anew. If its set is empty, too, it goes on remembering nothing.

        Args:
            state: before the set; of one row where the sets are several from the same state.
            elapsed: seconds between the two, (B,), or (1,).
            posterior: of the set with the state, (B, L).
            mask: modalities in the set, (B, M), bool.
        """
        hidden, time = self._aged(state, elapsed)
        sigma = (0.5 * posterior.log_variance).exp()
        weight = self.recurrent.weight
        time = time.expand(mask.shape[0], -1)  # not len(), which a trace would keep as a constant
        seen = torch.cat([posterior.mean, sigma, mask.to(hidden.dtype), time], dim=1).to(weight.dtype)
        new = at_least_single(self.input(seen)).chunk(3, dim=1)
        old = at_least_single(self.recurrent(hidden.to(weight.dtype))).chunk(3, dim=1)
        reset, keep = (new[0] + old[0]).sigmoid(), (new[1] + old[1]).sigmoid()
        candidate = (new[2] + reset * old[2]).tanh() + at_least_single(self.direct(seen))
        present = self.remembers(state, elapsed) | mask.any(dim=1)
        # In single precision: in half, the sum would lose slow changes.
        return MemoryState((1.0 - keep) * candidate + keep * hidden, present)

    def _aged(self, state: MemoryState, elapsed: Tensor) -> tuple[Tensor, Tensor]:
        """Return h, zeros where nothing is remembered, and the description of the time (B, 2)."""
        known = self.remembers(state, elapsed)
        elapsed = torch.where(known, elapsed, 0.0).to(state.hidden.dtype)
        settings = self.configuration
        time = torch.stack([torch.log1p(elapsed / settings.spacing), elapsed / settings.horizon], dim=1)
        return torch.where(known[:, None], state.hidden, 0.0), time

"""Memory between two sets, as a value that calls take and return."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from smvae_core.device import EngineError
from smvae_core.model.memory import MemoryConfiguration, MemoryState, Remembered
from smvae_core.model.vae import MultimodalVAE
from smvae_core.systems.posterior import Posterior

if TYPE_CHECKING:  # which imports this module
    from smvae_core.inference.watch import WatchState


@dataclass(frozen=True)
class State:
    """The memory of an engine after a set, to hand to the call for the next set. Nothing ever changes it.

    It lies on the host, so an engine with the same weights takes it on any device and back end.

    Attributes:
        age: seconds from the newest set with an observation to the set of this state; None: nothing is remembered.
        hidden: h, float32 (H,).
        model: the fingerprint of the weights; empty for a model without memory.
        watch: what trust keeps; None for a checkpoint without trust.
    """

    age: float | None
    hidden: np.ndarray = field(repr=False)
    model: str = field(repr=False)
    watch: "WatchState | None" = field(default=None, repr=False)


class Recalled(NamedTuple):
    """A state at the moment of the next set.

    Attributes:
        hidden: h, float32 (H,).
        age: seconds from the newest observation in memory to the next set; None: nothing is remembered.
        elapsed: seconds since the set of the state.
    """

    hidden: np.ndarray
    age: float | None
    elapsed: float


def aged(age: float | None, elapsed: float, horizon: float) -> float | None:
    """Return the age of memory at the next set; None if nothing is remembered, or not any more.

    Args:
        age: at the set before.
        elapsed: seconds since then; negative forgets.
        horizon: the greatest age that is remembered.
    """
    return age + elapsed if age is not None and elapsed >= 0.0 and age + elapsed <= horizon else None


def age_after(age: float | None, observed: bool) -> float | None:
    """Return the age of memory after a set, from its age before and whether the set had a modality."""
    return 0.0 if observed else age


class EngineMemory:
    """The states of one model: checks those that come in, and names those that go out.

    Args:
        model: with a memory.
        configuration: of its memory.
    """

    def __init__(self, model: MultimodalVAE, configuration: MemoryConfiguration) -> None:
        self._fingerprint = fingerprint(model)
        self._configuration = configuration

    def recall(self, state: object, elapsed: object) -> Recalled:
        """Return a state at the moment of the next set; without a state, nothing is remembered.

        Raises:
            EngineError: no state of this model, or no time.
        """
        if state is None:
            return nothing(self._configuration)
        if not isinstance(state, State):
            found = f"a {type(state).__module__}.{type(state).__name__}"
            raise EngineError(f"state: expected the state of an earlier Fusion, or None, found {found}")
        if state.model != self._fingerprint:
            raise EngineError("state: expected a state of this model, found one of another; begin with state=None")
        if isinstance(elapsed, bool) or not isinstance(elapsed, (int, float, np.number)) or not math.isfinite(elapsed):
            raise EngineError(f"elapsed: expected the seconds since the set of the state, found {elapsed!r}")
        seconds = float(elapsed)
        return Recalled(state.hidden, aged(state.age, seconds, self._configuration.horizon), seconds)

    def after(self, recalled: Recalled, hidden: np.ndarray, observed: bool) -> State:
        """Return the state after a set that had a modality, or none."""
        return State(age_after(recalled.age, observed), hidden, self._fingerprint)


class RecallingFusion(nn.Module):
    """The posterior of embedded sets with memory, and the memory after them; the model has a memory."""

    def __init__(self, model: MultimodalVAE) -> None:
        super().__init__()
        assert model.memory is not None
        self.model, self.memory = model, model.memory

    def forward(
        self, embeddings: Tensor, mask: Tensor, hidden: Tensor, present: Tensor, elapsed: Tensor
    ) -> tuple[Tensor, ...]:
        """Return mean (B, L), log variance (B, L), attention (B, M + 1), and the next hidden (B, H) and present (B,).

        Args:
            embeddings: (B, M, d).
            mask: (B, M), bool.
            hidden: h, (B, H).
            present: whether it counts, (B,), bool.
            elapsed: seconds since the set that gave it, (B,).
        """
        state = MemoryState(hidden, present)
        posterior = self.model.fuse(embeddings, mask, self.memory.recall(state, elapsed))
        return *posterior, *self.memory.advance(state, elapsed, posterior, mask)

    def step(self, embeddings: Tensor, mask: Tensor, recalled: Recalled) -> tuple[Posterior, Tensor]:
        """Return the posteriors of several sets of one state, and h after each."""
        rows, device = len(mask), embeddings.device
        mean, log_variance, attention, hidden, _ = self(
            embeddings,
            mask,
            torch.from_numpy(recalled.hidden).to(device).expand(rows, -1),
            torch.full((rows,), recalled.age is not None, device=device),
            torch.full((rows,), recalled.elapsed, device=device),
        )
        return Posterior(mean, log_variance, attention), hidden

    def remembered(self, recalled: Sequence[Recalled], device: torch.device) -> Remembered:
        """Return memory at the moments of several sets, as the posterior network takes it, one row each."""
        state = MemoryState(
            torch.from_numpy(np.stack([one.hidden for one in recalled])).to(device),
            torch.tensor([one.age is not None for one in recalled], device=device),
        )
        return self.memory.recall(state, torch.tensor([one.elapsed for one in recalled], device=device))


def nothing(configuration: MemoryConfiguration) -> Recalled:
    """Return what is recalled where nothing is remembered."""
    return Recalled(np.zeros(configuration.size, np.float32), None, 0.0)


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 of the weights."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).view(np.uint8).reshape(-1).data)
    return digest.hexdigest()

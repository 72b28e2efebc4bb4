"""Feeds: what the policy is told of the peg's pose, read from what the sensors bring, for attempts side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from benchmarks.pose_head import Head, raw
from smvae_core.checkpoint import Checkpoint
from smvae_core.inference.state import Recalled, RecallingFusion, age_after, aged, nothing
from smvae_core.inference.watch import Watch, WatchState
from smvae_core.modality import Modality
from smvae_core.model.vae import MultimodalVAE
from smvae_core.simulation.world import PegWorld

STEP_S = 0.05
SENSORS = ("rgb", "depth", "force")
"""The modalities that are known when a command is decided; the command itself becomes `action`."""

Arrays = Mapping[str, np.ndarray]


class Feed(Protocol):
    """Reads poses from what the sensors of several attempts bring. An attempt is known by its number."""

    def begin(self, attempts: int) -> None:
        """Forget the attempts before."""

    def read(self, attempts: Sequence[int], arrays: Sequence[Arrays], worlds: Sequence[PegWorld]) -> np.ndarray:
        """Return pose and probability of a contact, (N, 5), of the modalities that arrived, in model units."""

    def decided(self, attempts: Sequence[int], actions: Sequence[np.ndarray]) -> None:
        """Take note of the commands that followed, in model units."""


class TruePose:
    """The simulator's own pose: the most that any feed can give the policy."""

    def begin(self, attempts: int) -> None:
        """Nothing to forget."""

    def read(self, attempts: Sequence[int], arrays: Sequence[Arrays], worlds: Sequence[PegWorld]) -> np.ndarray:
        """Return the poses; the contact is told by a force of 1 N."""
        return np.array([[*world.pose(), float(_force(one) > 0.1)] for one, world in zip(arrays, worlds)])

    def decided(self, attempts: Sequence[int], actions: Sequence[np.ndarray]) -> None:
        """Nothing to note."""


class LatentFeed:
    """Our latent of whatever sets arrived, read by a head; the model runs once for all attempts."""

    def __init__(self, model: MultimodalVAE, head: Head) -> None:
        self._model, self._head = model.eval(), head

    def begin(self, attempts: int) -> None:
        """Nothing to forget."""

    @torch.inference_mode()
    def read(self, attempts: Sequence[int], arrays: Sequence[Arrays], worlds: Sequence[PegWorld]) -> np.ndarray:
        """Return what the head reads from the latents' means."""
        mean = self._model.fuse(*embedded(self._model, arrays)).mean
        return np.asarray(self._head.read(mean.numpy()), np.float64)

    def decided(self, attempts: Sequence[int], actions: Sequence[np.ndarray]) -> None:
        """Nothing to note."""


class RememberingFeed:
    """Our latent with memory and, where the checkpoint has it, trust: distrusted sensors leave the sets.

    The set of a step is complete once its command is known. Then it is judged, and goes into memory.
    """

    def __init__(self, loaded: Checkpoint, head: Head) -> None:
        assert loaded.model.memory is not None, "the checkpoint has a memory"
        self._model, self._head = loaded.model.eval(), head
        self._recalling = RecallingFusion(self._model)
        self._configuration = loaded.model.memory.configuration
        self._watch: Watch | None = None
        if loaded.trust is not None and loaded.metadata.trust is not None:
            self._watch = Watch(self._model, loaded.trust, loaded.metadata.trust)
        self.begin(0)

    def begin(self, attempts: int) -> None:
        """Forget the states."""
        self._recalled: list[Recalled] = [nothing(self._configuration)] * attempts
        self._watched: list[WatchState | None] = [None] * attempts

    @torch.inference_mode()
    def read(self, attempts: Sequence[int], arrays: Sequence[Arrays], worlds: Sequence[PegWorld]) -> np.ndarray:
        """Return what the head reads from the latents' means."""
        self._arrays = arrays
        self._embeddings, self._mask = embedded(self._model, arrays)
        kept = self._mask.clone()
        for row, attempt in enumerate(attempts):
            doubted = self._watch.doubted(self._watched[attempt]) if self._watch is not None else set()
            kept[row] &= torch.tensor([name not in doubted for name in self._model.names])
        mean = self._step(attempts, kept)[0]
        return np.asarray(self._head.read(mean.numpy()), np.float64)

    @torch.inference_mode()
    def decided(self, attempts: Sequence[int], actions: Sequence[np.ndarray]) -> None:
        """Judge the whole sets, the commands in them, and put them into memory."""
        column = self._model.names.index("action")
        self._embeddings[:, column] = self._model.embeddings["action"](torch.from_numpy(np.stack(actions)))
        self._mask[:, column] = True
        kept = self._mask.clone()
        for row, attempt in enumerate(attempts):
            if self._watch is None:
                break
            watched = self._watch.step(
                self._watched[attempt],
                {**self._arrays[row], "action": np.asarray(actions[row], np.float32)},
                self._embeddings[row : row + 1],
                self._recalled[attempt],
                STEP_S,
                SENSORS,
            )
            assert watched.recalled is not None, "the model has a memory"
            self._watched[attempt], self._recalled[attempt] = watched.state, watched.recalled
            kept[row] &= torch.tensor([name not in watched.dropped for name in self._model.names])
        hidden = self._step(attempts, kept)[1].numpy()
        for row, attempt in enumerate(attempts):
            age = age_after(self._recalled[attempt].age, observed=True)
            age = aged(age, STEP_S, self._configuration.horizon)
            self._recalled[attempt] = Recalled(hidden[row], age, STEP_S)

    def _step(self, attempts: Sequence[int], mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means (N, L) of the sets with memory, and h after them (N, H)."""
        recalled = [self._recalled[attempt] for attempt in attempts]
        mean, _, _, hidden, _ = self._recalling(
            self._embeddings,
            mask,
            torch.from_numpy(np.stack([one.hidden for one in recalled])),
            torch.tensor([one.age is not None for one in recalled]),
            torch.tensor([one.elapsed for one in recalled], dtype=torch.float32),
        )
        return mean, hidden


class RawFeed:
    """The raw modalities, read by a head, with zeros or the last value in place of what is missing."""

    def __init__(self, modalities: Sequence[Modality], head: Head, hold: bool) -> None:
        self._shapes = {m.name: m.shape for m in modalities if m.name in SENSORS}
        self._head, self._hold = head, hold
        self.begin(0)

    def begin(self, attempts: int) -> None:
        """Forget the last values."""
        self._last = [
            {name: np.zeros(shape, np.float32) for name, shape in self._shapes.items()} for _ in range(attempts)
        ]

    def read(self, attempts: Sequence[int], arrays: Sequence[Arrays], worlds: Sequence[PegWorld]) -> np.ndarray:
        """Return what the head reads."""
        present = {
            name: np.stack([one.get(name, self._last[attempt][name]) for attempt, one in zip(attempts, arrays)])
            for name in SENSORS
        }
        if self._hold:
            for attempt, one in zip(attempts, arrays):
                self._last[attempt].update({name: one[name] for name in SENSORS if name in one})
        return np.asarray(self._head.read(raw(present, SENSORS)), np.float64)

    def decided(self, attempts: Sequence[int], actions: Sequence[np.ndarray]) -> None:
        """Nothing to note."""


def embedded(model: MultimodalVAE, arrays: Sequence[Arrays]) -> tuple[Tensor, Tensor]:
    """Return the embeddings (N, M, d) of several sets, and what they have, (N, M), bool."""
    mask = torch.tensor([[name in one for name in model.names] for one in arrays])
    batch = {}
    for name in model.names:
        empty = np.zeros(model.modalities[name].shape, np.float32)
        if any(name in one for one in arrays):
            batch[name] = torch.from_numpy(np.stack([np.asarray(one.get(name, empty), np.float32) for one in arrays]))
    return model.embed(batch, mask), mask


def _force(arrays: Arrays) -> float:
    return float(np.abs(arrays["force"]).max()) if "force" in arrays else 0.0

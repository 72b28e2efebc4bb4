"""Feeds: what the policy is told of the peg's pose, read from what the sensors bring, for attempts side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from benchmarks.pose_head import POSE, Head
from benchmarks.pose_steps import Steps, inputs, joined, numbers, steps_of
from smvae_core.checkpoint import Checkpoint
from smvae_core.inference.state import Recalled, RecallingFusion, age_after, aged, nothing
from smvae_core.inference.watch import Watch, WatchState
from smvae_core.modality import Modality
from smvae_core.model.vae import MultimodalVAE
from smvae_core.systems.posterior import Posterior

STEP_S = 0.05
SENSORS = ("rgb", "depth", "force")
"""The modalities that are known when a command is decided; the command itself becomes `action`."""
_EXACT = 1e-4
"""σ of a pose that the simulator tells, metres and radians."""

Arrays = Mapping[str, np.ndarray]


class Feed(Protocol):
    """Reads poses from what the sensors of several attempts bring. An attempt is known by its number."""

    def begin(self, attempts: int) -> None:
        """Forget the attempts before."""

    def read(self, attempts: Sequence[int], arrays: Sequence[Arrays], truth: np.ndarray) -> np.ndarray:
        """Return pose, probability of a contact and σ of the pose, (N, 9).

        Args:
            attempts: numbers of the attempts that go on, (N,).
            arrays: the modalities that arrived in each, in model units.
            truth: the poses and whether there is a contact, (N, 5), for those that judge or record.
        """

    def decided(self, attempts: Sequence[int], actions: Sequence[np.ndarray]) -> None:
        """Take note of the commands that followed, in model units."""


class TruePose:
    """The simulator's own pose: the most that any feed can give the policy."""

    def begin(self, attempts: int) -> None:
        """Nothing to forget."""

    def read(self, attempts: Sequence[int], arrays: Sequence[Arrays], truth: np.ndarray) -> np.ndarray:
        """Return the poses."""
        return np.column_stack([truth, np.full((len(truth), POSE), _EXACT)])

    def decided(self, attempts: Sequence[int], actions: Sequence[np.ndarray]) -> None:
        """Nothing to note."""


class LatentFeed:
    """Our latent of whatever sets arrived, read by a head; the model runs once for all attempts."""

    def __init__(self, model: MultimodalVAE, head: Head) -> None:
        self._model, self._head = model.eval(), head

    def begin(self, attempts: int) -> None:
        """Nothing to forget."""

    @torch.inference_mode()
    def read(self, attempts: Sequence[int], arrays: Sequence[Arrays], truth: np.ndarray) -> np.ndarray:
        """Return what the head reads from the latents."""
        return self._head.read(inputs(self._model.fuse(*embedded(self._model, arrays))))

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
            self._watch.compiled()()
        self.begin(0)

    def begin(self, attempts: int) -> None:
        """Forget the states."""
        self._recalled: list[Recalled] = [nothing(self._configuration)] * attempts
        self._watched: list[WatchState | None] = [None] * attempts

    @torch.inference_mode()
    def read(self, attempts: Sequence[int], arrays: Sequence[Arrays], truth: np.ndarray) -> np.ndarray:
        """Return what the head reads from the latents."""
        self._arrays = arrays
        self._embeddings, self._mask = embedded(self._model, arrays)
        kept = self._mask.clone()
        for row, attempt in enumerate(attempts):
            doubted = self._watch.doubted(self._watched[attempt]) if self._watch is not None else set()
            kept[row] &= torch.tensor([name not in doubted for name in self._model.names])
        return self._head.read(inputs(self._step(attempts, kept)[0]))

    @torch.inference_mode()
    def decided(self, attempts: Sequence[int], actions: Sequence[np.ndarray]) -> None:
        """Judge the whole sets, the commands in them, and put them into memory."""
        column = self._model.names.index("action")
        commands = torch.from_numpy(np.asarray(actions, np.float32))
        self._embeddings[:, column] = self._model.embeddings["action"](commands)
        self._mask[:, column] = True
        kept = self._mask.clone()
        for row, attempt in enumerate(attempts):
            if self._watch is None:
                break
            watched = self._watch.step(
                self._watched[attempt],
                {**self._arrays[row], "action": np.asarray(actions[row], np.float32)},
                self._embeddings[row].numpy(),
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

    def _step(self, attempts: Sequence[int], mask: Tensor) -> tuple[Posterior, Tensor]:
        """Return the posteriors of the sets with memory, and h after them (N, H)."""
        recalled = [self._recalled[attempt] for attempt in attempts]
        mean, log_variance, attention, hidden, _ = self._recalling(
            self._embeddings,
            mask,
            torch.from_numpy(np.stack([one.hidden for one in recalled])),
            torch.tensor([one.age is not None for one in recalled]),
            torch.tensor([one.elapsed for one in recalled], dtype=torch.float32),
        )
        return Posterior(mean, log_variance, attention), hidden


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

    def read(self, attempts: Sequence[int], arrays: Sequence[Arrays], truth: np.ndarray) -> np.ndarray:
        """Return what the head reads."""
        present = [
            numbers(np.stack([one.get(name, self._last[attempt][name]) for attempt, one in zip(attempts, arrays)]))
            for name in SENSORS
        ]
        if self._hold:
            for attempt, one in zip(attempts, arrays):
                self._last[attempt].update({name: one[name] for name in SENSORS if name in one})
        return self._head.read(np.concatenate(present, axis=1))

    def decided(self, attempts: Sequence[int], actions: Sequence[np.ndarray]) -> None:
        """Nothing to note."""


class Recorder:
    """Another feed, whose attempts become steps to train heads on."""

    def __init__(self, feed: Feed, model: MultimodalVAE) -> None:
        self._feed, self._model = feed, model
        self.begin(0)

    def begin(self, attempts: int) -> None:
        """Forget the attempts before."""
        self._feed.begin(attempts)
        self._arrays: list[list[dict[str, np.ndarray]]] = [[] for _ in range(attempts)]
        self._truth: list[list[np.ndarray]] = [[] for _ in range(attempts)]

    def read(self, attempts: Sequence[int], arrays: Sequence[Arrays], truth: np.ndarray) -> np.ndarray:
        """Return what the other feed reads."""
        for row, attempt in enumerate(attempts):
            self._arrays[attempt].append(dict(arrays[row]))
            self._truth[attempt].append(truth[row])
        return self._feed.read(attempts, arrays, truth)

    def decided(self, attempts: Sequence[int], actions: Sequence[np.ndarray]) -> None:
        """Keep the commands, which complete the sets."""
        for attempt, action in zip(attempts, actions):
            self._arrays[attempt][-1]["action"] = np.asarray(action, np.float32)
        self._feed.decided(attempts, actions)

    def steps(self) -> Steps:
        """Return all that was recorded since `begin`."""
        made = []
        for sets, truth in zip(self._arrays, self._truth):
            arrays, arrived = stacked(self._model, sets, self._model.names), arrived_in(self._model, sets)
            made.append(steps_of(self._model, arrays, np.stack(truth), (len(sets),), arrived))
        return joined(made)


def embedded(model: MultimodalVAE, arrays: Sequence[Arrays]) -> tuple[Tensor, Tensor]:
    """Return the embeddings (N, M, d) of several sets, and what they have, (N, M), bool."""
    arrived = arrived_in(model, arrays)
    batch = stacked(model, arrays, [name for name, here in zip(model.names, arrived.T) if here.any()])
    mask = torch.from_numpy(arrived)
    return model.embed({name: torch.from_numpy(values) for name, values in batch.items()}, mask), mask


def arrived_in(model: MultimodalVAE, arrays: Sequence[Arrays]) -> np.ndarray:
    """Return which modalities several sets have, (N, M), bool."""
    return np.array([[name in one for name in model.names] for one in arrays])


def stacked(model: MultimodalVAE, arrays: Sequence[Arrays], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return some modalities of several sets, (N, *shape) float32, zeros where a set has none."""
    empty = {name: np.zeros(model.modalities[name].shape, np.float32) for name in names}
    return {
        name: np.stack([np.asarray(one.get(name, zeros), np.float32) for one in arrays])
        for name, zeros in empty.items()
    }

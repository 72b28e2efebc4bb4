"""The watch over a stream of sets: trust is judged, and memory is put right once a modality is distrusted.

A lie reaches memory before it is noticed. So the watch keeps the sets of the last seconds with the memory before each.
When a modality is distrusted and is to leave the sets, memory goes back to the time at which the fault is estimated to
have begun, and follows the same sets again without that modality.
"""

import copy
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from smvae_core.inference.backend import BackendError
from smvae_core.inference.state import Recalled, RecallingFusion, age_after, aged
from smvae_core.inference.trust import Seen, TorchJudge, Trust, TrustState, Verdict
from smvae_core.inference.trust_graph import MemoryGraph, TraitsGraph, TrustGraph
from smvae_core.model.memory import Remembered
from smvae_core.model.traits import trait_count, traits_of
from smvae_core.model.trust import TrustNetwork
from smvae_core.model.vae import MultimodalVAE
from smvae_core.trust import TrustRecord

KEPT = 3.0
"""Seconds for which sets are kept. A fault that began earlier is undone from then on."""
_log = logging.getLogger(__name__)
# The most by which logits of a graph may differ from those of PyTorch, as a part of the largest.
_TOLERANCE = 1e-4


class _Past(NamedTuple):
    """A set of the last seconds: its time, and the memory at its moment, before it was fused."""

    seconds: float
    recalled: Recalled
    embeddings: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class WatchState:
    """All that the watch keeps from set to set.

    Attributes:
        trust: of the sequential test.
        past: sets of the last seconds, oldest first; none for a model without memory.
    """

    trust: TrustState
    past: tuple[_Past, ...] = field(default=(), repr=False)


class Watched(NamedTuple):
    """The result for one set.

    Attributes:
        state: for the next set.
        verdict: on the modalities of the set.
        recalled: memory at the moment of the set, put right where need be; None for a model without memory.
        dropped: names of the modalities that leave the set.
    """

    state: WatchState
    verdict: Verdict
    recalled: Recalled | None
    dropped: frozenset[str]


class Watch:
    """Watches the sets of one model. It keeps nothing between calls.

    Args:
        model: on the processor.
        network: of trust.
        record: of its calibration.
    """

    def __init__(self, model: MultimodalVAE, network: TrustNetwork, record: TrustRecord) -> None:
        self._names = model.names
        self._modalities = model.configuration.modalities
        self._model, self._network = model, network
        self._trust = Trust(model.fusion, network, record, model.names)
        self._recalling = recalling = RecallingFusion(model) if model.memory is not None else None
        self._remembered: Callable[[Recalled], Remembered] | None = None
        self._traits: Callable[[Mapping[str, np.ndarray]], np.ndarray] = self._torch_traits
        if recalling is not None:
            self._remembered = lambda recalled: recalling.remembered([recalled], torch.device("cpu"))

    def compiled(self) -> Callable[[], None]:
        """Build the networks in ONNX Runtime, and return the step that takes them.

        Where they cannot be built, or do not agree with PyTorch, the log says why, and PyTorch runs them on. This may
        run on another thread than `step`; what it returns must not.
        """
        try:
            judge, traits = self._judge_graph(), TraitsGraph(self._modalities)
            remembered = self._remembered
            if self._recalling is not None:
                remembered = MemoryGraph(copy.deepcopy(self._recalling.memory))
        except BackendError as error:
            _log.warning("%s; trust runs in PyTorch", error)
            return lambda: None

        def take() -> None:
            self._trust.judge, self._traits, self._remembered = judge, traits, remembered

        return take

    def _judge_graph(self) -> TrustGraph:
        """Return the network of trust as a graph that agrees with it.

        Raises:
            BackendError: it does not, or it cannot be built.
        """
        slots, modalities = len(self._names) + (self._recalling is not None), len(self._names)
        width, traits = self._model.width, trait_count(self._modalities)
        # Copies, since the exporter changes the modes of the modules, which another thread may be running.
        graph = TrustGraph(copy.deepcopy(self._model.fusion), copy.deepcopy(self._network), slots, width, traits)
        random = np.random.default_rng(0)
        now, before, past = (
            Seen(
                float(n),
                random.standard_normal((slots, width), np.float32),
                np.arange(slots) != n,
                random.standard_normal((modalities, traits), np.float32),
            )
            for n in range(3)
        )
        allowed = np.ones((1, slots), bool)
        with torch.inference_mode():
            expected = TorchJudge(self._model.fusion, self._network)(now, before, past, allowed)
        found = graph(now, before, past, allowed)
        there = np.isfinite(expected)
        # Of the largest: random numbers may be far from those that the network was made for.
        worst = float(np.abs(found[there] - expected[there]).max() / max(1.0, np.abs(expected[there]).max()))
        if not worst <= _TOLERANCE or not (np.isfinite(found) == there).all():
            raise BackendError(f"onnx: expected trust to agree with PyTorch to {_TOLERANCE:g}, found {worst:.2g}")
        return graph

    def doubted(self, state: WatchState | None) -> set[str]:
        """Return the names of the modalities that are distrusted in a state; none before any set."""
        return set() if state is None else {name for name, one in zip(self._names, state.trust.distrusted) if one}

    def step(
        self,
        state: WatchState | None,
        arrays: Mapping[str, np.ndarray],
        embeddings: np.ndarray,
        recalled: Recalled | None,
        elapsed: float,
        drop: Collection[str] = (),
    ) -> Watched:
        """Watch one set.

        Args:
            state: after the set before; None before any.
            arrays: by modality, float32 (*shape), model units: what the set has, distrusted modalities included.
            embeddings: (M, d), float32; (M + 1, d) with that of memory.
            recalled: memory at the moment of the set; None for a model without memory.
            elapsed: seconds since the set before.
            drop: modalities that leave the set while they are distrusted.
        """
        state = WatchState(self._trust.start()) if state is None else state
        mask = np.array([name in arrays for name in self._names])
        seconds = state.trust.seconds + elapsed
        seen = Seen(seconds, *self._with_memory(embeddings, mask, recalled), self._traits(arrays))
        embeddings = embeddings[: len(mask)]
        trust, verdict = self._trust.see(state.trust, seen)
        dropped = frozenset(verdict.distrusted) & frozenset(drop)
        past: tuple[_Past, ...] = ()
        if recalled is not None:
            past = (*state.past, _Past(trust.seconds, recalled, embeddings, mask))
            past = tuple(one for one in past if trust.seconds - one.seconds <= KEPT)
            if new := dropped - self.doubted(state):
                past = self._again(past, trust.seconds - max(verdict.faulty_for[name] for name in new), dropped)
                recalled = past[-1].recalled
        return Watched(WatchState(trust, past), verdict, recalled, dropped)

    def _torch_traits(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        batch = {name: torch.from_numpy(x)[None] for name, x in arrays.items()}
        return traits_of(self._modalities, batch, rows=1)[0].numpy()

    @torch.inference_mode()
    def _with_memory(
        self, embeddings: np.ndarray, mask: np.ndarray, recalled: Recalled | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the columns that the posterior network takes: those of the set, and memory if there is one."""
        if self._remembered is None or recalled is None:
            return embeddings, mask
        if len(embeddings) == len(mask):
            embeddings = np.concatenate([embeddings, self._remembered(recalled).embedding.numpy()])
        return embeddings, np.append(mask, recalled.age is not None)

    @torch.inference_mode()
    def _again(self, past: tuple[_Past, ...], begun: float, dropped: Collection[str]) -> tuple[_Past, ...]:
        """Return the sets with memory as it were had the dropped modalities been out of them since `begun`."""
        assert self._recalling is not None
        horizon = self._recalling.memory.configuration.horizon
        kept = np.array([name not in dropped for name in self._names])
        first = next((n for n, one in enumerate(past) if one.seconds >= begun), len(past) - 1)
        redone = list(past)
        for n in range(first, len(past)):
            one = redone[n]._replace(mask=past[n].mask & kept)
            redone[n] = one
            if n + 1 < len(past):
                embeddings, mask = (torch.from_numpy(x)[None] for x in (one.embeddings, one.mask))
                _, hidden = self._recalling.step(embeddings, mask, one.recalled)
                elapsed = past[n + 1].recalled.elapsed
                age = aged(age_after(one.recalled.age, observed=bool(one.mask.any())), elapsed, horizon)
                redone[n + 1] = past[n + 1]._replace(recalled=Recalled(hidden[0].numpy(), age, elapsed))
        return tuple(redone)

"""The memory of an active node: the engine's state from set to set, and why it was forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from smvae_ros.synchronizer.sample_set import SampleSet

if TYPE_CHECKING:  # torch takes seconds to import; a node that waits to be configured does without
    from smvae_core.inference.state import State


class Recollection(NamedTuple):
    """The memory that is handed to the engine with a set.

    Attributes:
        state: after the set before; None: nothing is remembered.
        elapsed: seconds since then.
        number: how often memory had been forgotten, or could have been.
    """

    state: State | None
    elapsed: float | None
    number: int


class SetMemory:
    """The state after the newest set, by the stamps of the sets. The worker uses it, the executor may forget it.

    Args:
        horizon: seconds that the checkpoint remembers; None without memory.
        now_ns: the node's clock.
        say: takes a sentence for the log.

    Attributes:
        forgotten: how often something was forgotten.
    """

    def __init__(self, horizon: float | None, now_ns: Callable[[], int], say: Callable[[str], None]) -> None:
        self.forgotten = 0
        self._horizon, self._now_ns, self._say = horizon, now_ns, say
        self._state: State | None = None
        self._last: SampleSet | None = None
        self._observed_ns = 0
        self._number = 0
        self._lock = threading.Lock()

    @property
    def age(self) -> float | None:
        """Seconds by the node's clock since a modality was fused; None where nothing is remembered."""
        with self._lock:
            remembers = self._state is not None and self._state.age is not None
            return max(0, self._now_ns() - self._observed_ns) / 1e9 if remembers else None

    def recall(self, sample_set: SampleSet) -> Recollection:
        """Return what is remembered at a set, after forgetting what is too old."""
        with self._lock:
            elapsed = sample_set.seconds_since(self._last)
            if elapsed is None:
                self._forget("time went back")
            elif self._horizon is not None and self._state is not None:
                silence = (self._state.age or 0.0) + elapsed
                if silence > self._horizon:
                    self._forget(self._too_old(silence))
            return Recollection(self._state, elapsed if self._state is not None else None, self._number)

    def keep(self, sample_set: SampleSet, state: State | None, recollection: Recollection) -> bool:
        """Take the state after a set, unless memory was forgotten since it was recalled for the set.

        Returns:
            Whether it was taken.
        """
        with self._lock:
            if recollection.number != self._number:
                return False
            # A state in which nothing is remembered is none.
            useful = state is not None and (state.age is not None or state.watch is not None)
            self._state, self._last = state if useful else None, sample_set
            if state is not None and state.age == 0.0:
                self._observed_ns = self._now_ns()
            return True

    def forget(self, reason: str) -> None:
        """Forget everything, and say why if there was anything."""
        with self._lock:
            self._forget(reason)

    def lapse(self) -> None:
        """Forget what is too old by the node's clock, so that the log says it while no set comes."""
        with self._lock:
            silence = (self._now_ns() - self._observed_ns) / 1e9
            if self._horizon is not None and silence > self._horizon:
                self._forget(self._too_old(silence))

    def _too_old(self, silence: float) -> str:
        return f"no modality was fused for {silence:.1f} s, and the checkpoint remembers {self._horizon:g} s"

    def _forget(self, reason: str) -> None:
        if self._state is not None and self._state.age is not None:
            self.forgotten += 1
            self._say(f"memory forgotten: {reason}")
        self._state = self._last = None
        self._number += 1

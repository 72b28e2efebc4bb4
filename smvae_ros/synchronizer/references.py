"""The references that wait to become sets."""

from __future__ import annotations

from bisect import insort
from typing import NamedTuple

from smvae_ros.synchronizer.sample_set import new_tuple

NEVER = -(1 << 63)
"""Before every stamp and every time, in nanoseconds."""
FOREVER = 1 << 128
"""After every stamp and every time, in nanoseconds."""


class Reference(NamedTuple):
    """What a set is gathered around: a sample's stamp, or a tick of the clock. All times are integer nanoseconds."""

    stamp_ns: int
    opened_ns: int
    deadline_ns: int
    tick: bool


class References:
    """The waiting references, in the order of their stamps.

    Attributes:
        first: the one with the oldest stamp; None if none waits.
        due_ns: the earliest deadline; FOREVER if none waits.
    """

    def __init__(self) -> None:
        self._waiting: list[Reference] = []
        self.first: Reference | None = None
        self.due_ns = FOREVER

    @property
    def newest(self) -> Reference | None:
        """The one with the newest stamp."""
        return self._waiting[-1] if self._waiting else None

    def open(self, stamp_ns: int, opened_ns: int, deadline_ns: int, *, tick: bool) -> None:
        """Let a reference wait."""
        waiting = self._waiting
        reference = new_tuple(Reference, (stamp_ns, opened_ns, deadline_ns, tick))
        if waiting:
            insort(waiting, reference)
        else:  # as nearly always
            waiting.append(reference)
        self.first = waiting[0]
        if deadline_ns < self.due_ns:
            self.due_ns = deadline_ns

    def close(self) -> None:
        """Forget the one with the oldest stamp."""
        del self._waiting[0]
        if self._waiting:
            self._note()
        else:
            self.first, self.due_ns = None, FOREVER

    def keep(self, *, ticks: bool) -> None:
        """Forget all but the ticks, or all but those that are none."""
        self._waiting = [reference for reference in self._waiting if reference.tick == ticks]
        self._note()

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()
        self._note()

    def _note(self) -> None:
        waiting = self._waiting
        self.first = waiting[0] if waiting else None
        self.due_ns = min([reference.deadline_ns for reference in waiting], default=FOREVER)

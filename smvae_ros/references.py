"""The references that wait to become sets."""

from __future__ import annotations

from bisect import insort
from typing import NamedTuple

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
        self._note()

    @property
    def newest(self) -> Reference | None:
        """The one with the newest stamp."""
        return self._waiting[-1] if self._waiting else None

    def open(self, reference: Reference) -> None:
        """Let a reference wait."""
        insort(self._waiting, reference)
        self._note()

    def pop(self) -> Reference:
        """Take the one with the oldest stamp."""
        reference = self._waiting.pop(0)
        self._note()
        return reference

    def keep(self, *, ticks: bool) -> None:
        """Forget all but the ticks, or all but those that are none."""
        self._waiting = [reference for reference in self._waiting if reference.tick == ticks]
        self._note()

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()
        self._note()

    def _note(self) -> None:
        # Nearly always there is one at most.
        waiting = self._waiting
        if not waiting:
            self.first, self.due_ns = None, FOREVER
        else:
            self.first = waiting[0]
            self.due_ns = self.first.deadline_ns if len(waiting) == 1 else min(one.deadline_ns for one in waiting)

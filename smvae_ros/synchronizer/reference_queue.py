"""The references that wait to become sets."""

from __future__ import annotations

from bisect import insort
from typing import NamedTuple

from smvae_ros.synchronizer.sample_set import new_tuple
from smvae_ros.synchronizer.stream import FOREVER, NEVER


class Reference(NamedTuple):
    """The moment that a set is gathered around. All times are integer nanoseconds.

    Attributes:
        stamp_ns: the stamp of a sample of the reference modality, or of a tick of the clock.
        opened_ns: when the reference arrived.
        deadline_ns: when its set leaves at the latest.
        tick: whether it is a tick of the clock.
    """

    stamp_ns: int
    opened_ns: int
    deadline_ns: int
    tick: bool


class ReferenceQueue:
    """The waiting references, in the order of their stamps.

    Attributes:
        first: the reference with the oldest stamp; None if none waits.
        due_ns: the earliest deadline; FOREVER if no reference waits.
    """

    def __init__(self) -> None:
        self._waiting: list[Reference] = []
        self.first: Reference | None = None
        self.due_ns = FOREVER

    @property
    def newest(self) -> Reference | None:
        """The reference with the newest stamp; None if none waits."""
        return self._waiting[-1] if self._waiting else None

    def open(self, stamp_ns: int, opened_ns: int, deadline_ns: int, *, tick: bool) -> None:
        """Add a reference."""
        waiting = self._waiting
        reference = new_tuple(Reference, (stamp_ns, opened_ns, deadline_ns, tick))
        if waiting:
            insort(waiting, reference)
        else:  # the usual case
            waiting.append(reference)
        self.first = waiting[0]
        if deadline_ns < self.due_ns:
            self.due_ns = deadline_ns

    def close(self) -> None:
        """Remove the reference with the oldest stamp."""
        del self._waiting[0]
        if self._waiting:
            self._update()
        else:
            self.first, self.due_ns = None, FOREVER

    def before(self, stamp_ns: int) -> int:
        """Return the newest stamp that waits and is older than this; NEVER if there is none."""
        return max([reference.stamp_ns for reference in self._waiting if reference.stamp_ns < stamp_ns], default=NEVER)

    def keep_ticks(self) -> None:
        """Remove the references of the modality."""
        self._waiting = [reference for reference in self._waiting if reference.tick]
        self._update()

    def remove_ticks(self, after_ns: int, before_ns: int = FOREVER) -> None:
        """Remove the ticks with stamps between two others."""
        self._waiting = [one for one in self._waiting if not (one.tick and after_ns < one.stamp_ns < before_ns)]
        self._update()

    def clear(self) -> None:
        """Remove all references."""
        self._waiting.clear()
        self._update()

    def _update(self) -> None:
        waiting = self._waiting
        self.first = waiting[0] if waiting else None
        self.due_ns = min([reference.deadline_ns for reference in waiting], default=FOREVER)

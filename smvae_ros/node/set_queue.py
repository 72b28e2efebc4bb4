"""The sets that wait for the worker, and which of them are overtaken."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from smvae_ros.synchronizer.sample_set import TOGETHER, SampleSet


class Waiting(NamedTuple):
    """A set that waits, and when that began (`perf_counter_ns`)."""

    sample_set: SampleSet
    submitted_ns: int


class SetQueue:
    """The waiting sets, the oldest first. Not safe for concurrent use.

    Where a sensor falls silent or the machine stood still, a few sets leave the synchroniser together; all are run.
    Where the network is slower than the sets, the newest wins: once `TOGETHER` sets were run without a pause, only one
    set may wait until none does. Sets that make up for a silence of the reference have places of their own, and as many
    more may be run without a pause, so that the worker catches up with those that came meanwhile.
    """

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._without_pause = 0
        self._made_up = 0

    def __len__(self) -> int:
        """Return the number of waiting sets."""
        return len(self._waiting)

    def put(self, sample_set: SampleSet, now_ns: int) -> int:
        """Let a set wait; return how many older ones it overtook, which no longer wait."""
        self._made_up += sample_set.made_up
        places = TOGETHER + self._made_up
        if self._without_pause >= places + self._made_up:
            places = 1
        overtaken = max(0, len(self._waiting) + 1 - places)
        for _ in range(overtaken):
            self._waiting.popleft()
        self._waiting.append(Waiting(sample_set, now_ns))
        return overtaken

    def take(self) -> Waiting:
        """Return the oldest set, which waits no longer. At least one must wait."""
        self._without_pause += 1
        return self._waiting.popleft()

    def pause(self) -> None:
        """Note that the worker has nothing to do, unless a set waits."""
        if not self._waiting:
            self._without_pause = self._made_up = 0

    def clear(self) -> None:
        """Drop the sets that wait."""
        self._waiting.clear()

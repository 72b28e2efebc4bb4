"""The usual time between the messages of a stream, and its gaps."""

from __future__ import annotations

import math
from collections import Counter

LONGEST_GAP = 5
"""A time between two messages, or two sets, is a gap if it is this many times as long as usual."""

_BINS = 32
"""Bins of the histogram for each doubling of the spacing."""


class Spacings:
    """The times between the messages of a stream, in constant memory: accurate to 2 %."""

    def __init__(self) -> None:
        self.longest_ns = 0
        self._newest_ns: int | None = None
        self._counts: Counter[int] = Counter()

    def add(self, stamp_ns: int) -> None:
        """Add the stamp of a message; a stamp that is not newer than those before adds nothing."""
        if self._newest_ns is not None and stamp_ns > self._newest_ns:
            spacing_ns = stamp_ns - self._newest_ns
            self.longest_ns = max(self.longest_ns, spacing_ns)
            self._counts[round(math.log2(spacing_ns) * _BINS)] += 1
        self._newest_ns = stamp_ns if self._newest_ns is None else max(stamp_ns, self._newest_ns)

    def usual_ns(self) -> float | None:
        """Return the median; None for fewer than two messages."""
        seen, half = 0, sum(self._counts.values()) / 2
        for key in sorted(self._counts):
            seen += self._counts[key]
            if seen >= half:
                return float(2 ** (key / _BINS))
        return None

    def gaps(self) -> int:
        """Return the number of times that are longer than `LONGEST_GAP` times the usual one."""
        usual_ns = self.usual_ns()
        if usual_ns is None:
            return 0
        least = math.log2(LONGEST_GAP * usual_ns) * _BINS
        return sum(count for key, count in self._counts.items() if key > least + 0.5)

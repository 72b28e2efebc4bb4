"""The rule that says which samples of a stream belong to a reference. The synchroniser and the replay both use it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from smvae_ros.synchronizer.stream import Stream

# A window that spans so many times the time of its samples at the declared period means something else to the model.
STRETCH = 4


class SampleSelection:
    """The choice of a stream's samples for a reference, from a list of their stamps.

    The samples themselves are no concern of the rule: it returns places in the list of stamps, which must be in order,
    oldest first. Whether a sample was used before is for the caller to consider.

    Args:
        stream: whose tolerance, hold, window, least fill and timeout apply.
    """

    def __init__(self, stream: Stream) -> None:
        self._window, self._least, self._timeout_ns = stream.window, stream.least, stream.timeout_ns
        self.longest_ns = STRETCH * stream.period_ns
        """From one sample of a window to the next at most, on average; 0 without limit."""
        self.back_ns = max(stream.tolerance_ns, stream.hold_ns)
        """How far before the reference a sample (of a window: its newest sample) may lie."""
        self.ahead_ns = stream.tolerance_ns if stream.window == 1 else 0
        """How far after the reference a sample may lie."""

    def select(self, stamps: Sequence[int], reference_ns: int) -> tuple[int, int]:
        """Return the places `start` and `end` of the samples for the reference; equal if there are none."""
        if self._window > 1:
            start, end = self.window(stamps, reference_ns)
            return (end, end) if self.is_stretched(stamps, start, end) else (start, end)
        place = self.nearest(stamps, reference_ns)
        return (0, 0) if place is None else (place, place + 1)

    def nearest(self, stamps: Sequence[int], reference_ns: int) -> int | None:
        """Return the place of the nearest sample within reach, the earlier of two as near; None if there is none."""
        if not stamps:
            return None
        behind_ns = reference_ns - stamps[-1]
        if behind_ns >= 0:  # the usual case
            return len(stamps) - 1 if behind_ns <= self.back_ns else None
        after = bisect_left(stamps, reference_ns)
        distance_ns = stamps[after] - reference_ns
        if after:
            behind_ns = reference_ns - stamps[after - 1]
            if behind_ns <= self.back_ns and (behind_ns <= distance_ns or distance_ns > self.ahead_ns):
                return after - 1
        return after if distance_ns <= self.ahead_ns else None

    def window(self, stamps: Sequence[int], reference_ns: int) -> tuple[int, int]:
        """Return the places `start` and `end` of the newest samples up to the reference.

        `end` is always the place after the last sample up to the reference; `start` equals it if the window does not
        count as present.
        """
        end = bisect_right(stamps, reference_ns)
        start = self._window_start(stamps, end)
        if end - start < self._least or reference_ns - stamps[end - 1] > self.back_ns:
            return end, end
        return start, end

    def is_stretched(self, stamps: Sequence[int], start: int, end: int) -> bool:
        """Return whether the samples of a window lie so far apart that it does not count as present.

        They do if they span more than four times the time that they take at the declared period. Without a declared
        period no window is stretched.
        """
        return end - start > 1 and 0 < self.longest_ns * (end - 1 - start) < stamps[end - 1] - stamps[start]

    def _window_start(self, stamps: Sequence[int], end: int) -> int:
        """Return where the window that ends at `end` begins: after the last silence of the timeout in it."""
        start = max(0, end - self._window)
        if start < end and stamps[end - 1] - stamps[start] < self._timeout_ns:  # the usual case
            return start
        for place in range(end - 1, start, -1):
            if stamps[place] - stamps[place - 1] >= self._timeout_ns:
                return place
        return start

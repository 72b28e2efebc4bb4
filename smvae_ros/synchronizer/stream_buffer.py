"""One modality's samples on their way into sets: where they wait, and which of them a reference gets."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

from smvae_ros.synchronizer.references import FOREVER, NEVER
from smvae_ros.synchronizer.sample_set import Sample, new_tuple
from smvae_ros.synchronizer.stream import Stream, StreamCounts

_ROUND = 64


class StreamBuffer:
    """The waiting samples of one stream, in the order of their stamps, at most `depth` of them.

    Attributes:
        stamps: of the samples that wait, the oldest first.
        arrived_ns: when the last sample arrived; NEVER before the first.
        dead_ns: when the stream is dead, unless another sample arrives.
        lag_ns: how far the last sample's stamp lay behind its arrival; FOREVER before the first.
        newest_ns: the newest stamp.
        used_ns: the newest stamp that was in a set.
        period_ns: the least spacing of samples, as declared or seen.
    """

    def __init__(self, stream: Stream) -> None:
        self.counts = StreamCounts()
        self._adopt(stream)
        self.stamps: list[int] = []
        self._samples: list[Sample] = []
        # The first `_reused` samples have been in a set and wait for another; every one after them is fresh.
        self._reused = 0
        self.clear()

    def __len__(self) -> int:
        """The samples that wait for their first set."""
        return len(self.stamps) - self._reused

    def clear(self) -> None:
        """Forget all samples, counted as `reset`, and all that was learned of the stream's times."""
        self._drop_oldest(len(self.stamps), "reset")
        self.arrived_ns = self.dead_ns = NEVER
        self.lag_ns = FOREVER
        self.newest_ns = NEVER
        self.used_ns = NEVER
        self.period_ns = self._least_ns = self.stream.period_ns
        self._round = 0

    def change(self, stream: Stream) -> None:
        """Go on as another stream; one that is no longer enabled lets go of its samples."""
        if self.stream.enabled and not stream.enabled:
            self._drop_oldest(len(self.stamps), "disabled")
            self.clear()
        self._adopt(stream)

    def wait(self, first_ns: int) -> None:
        """Count the stream as dead its timeout after its last sample, or after `first_ns` if that is later."""
        self.dead_ns = max(self.arrived_ns, first_ns) + self.stream.timeout_ns

    def arrive(self, stamp_ns: int, now_ns: int) -> bool:
        """Note that the stream lives; returns whether it was dead."""
        revived = now_ns >= self.dead_ns or self.arrived_ns == NEVER
        self.arrived_ns = now_ns
        self.dead_ns = now_ns + self._timeout_ns
        self.lag_ns = now_ns - stamp_ns
        return revived

    def add(self, stamp_ns: int, data: Any, set_ns: int) -> bool:
        """Put a sample in its place, or count why not; `set_ns` is the stamp of the last set."""
        stamps = self.stamps
        if stamp_ns <= self.used_ns:
            self.counts.dropped["duplicate" if stamp_ns == self.used_ns else "late"] += 1
            return False
        if stamp_ns <= set_ns and self._window == 1 and stamp_ns <= set_ns - self._back_ns:
            self.counts.dropped["late"] += 1
            return False
        if stamp_ns > self.newest_ns:
            spacing = stamp_ns - self.newest_ns
            self.newest_ns = stamp_ns
            stamps.append(stamp_ns)
            self._samples.append(new_tuple(Sample, (stamp_ns, data)))
        else:
            place = bisect_left(stamps, stamp_ns)
            spacing = self.newest_ns - stamp_ns
            if place < len(stamps):
                spacing = stamps[place] - stamp_ns
            if not spacing:
                self.counts.dropped["duplicate"] += 1
                return False
            if place:
                spacing = min(spacing, stamp_ns - stamps[place - 1])
            stamps.insert(place, stamp_ns)
            self._samples.insert(place, Sample(stamp_ns, data))
        if spacing < self._least_ns:
            self._least_ns = spacing
        if spacing < self.period_ns:
            self.period_ns = spacing
        self._round += 1
        if self._round == _ROUND:
            # The least spacing of the last round alone: one burst must not make every later set wait.
            self.period_ns, self._least_ns, self._round = self._least_ns, self.stream.period_ns, 0
        if len(stamps) > self._depth:
            self._drop_oldest(1, "overflow")
        return True

    def alive(self, now_ns: int) -> bool:
        """Whether a sample arrived within the timeout."""
        return now_ns < self.dead_ns and self.arrived_ns != NEVER

    def settled(self, reference_ns: int) -> bool:
        """Whether nothing that can still arrive would change what the reference gets from this stream."""
        period_ns = self.period_ns
        if self._ordered:
            # The next sample lies at least so far after the reference.
            next_ns = self.newest_ns - reference_ns + (period_ns or 1)
            if next_ns > self._ahead_ns:
                return True
        else:
            next_ns = NEVER
        if self._window > 1:
            return not self._ordered and self._steady(reference_ns)
        stamps = self.stamps
        if not stamps:
            return False
        distance_ns = reference_ns - stamps[-1]
        if distance_ns > self._back_ns:
            return False
        if distance_ns < 0:
            nearest = self._nearest(reference_ns)
            if nearest is None:
                return False
            distance_ns = abs(stamps[nearest] - reference_ns)
        return distance_ns <= next_ns or 2 * distance_ns < period_ns or distance_ns == 0

    def take(self, reference_ns: int) -> tuple[Sample, ...]:
        """What the reference gets, oldest first, () if nothing; forgets what no later reference can get.

        There must be a sample.
        """
        if self._window > 1:
            return self._take_window(reference_ns)
        stamps, samples = self.stamps, self._samples
        nearest: int | None = len(stamps) - 1
        age_ns = reference_ns - stamps[-1]
        if age_ns < 0:
            nearest = self._nearest(reference_ns)
        elif age_ns > self._back_ns:
            nearest = None
        if nearest is None:
            self._drop_oldest(bisect_right(stamps, reference_ns - self._back_ns), "unused")
            return ()
        if nearest:
            self._drop_oldest(nearest, "unused")
        counts = self.counts
        counts.sets += 1
        self.used_ns = stamps[0]
        taken = (samples[0],)
        if not self._reused:
            counts.used += 1
            self._reused = 1
        if not self._hold_ns:
            self._reused -= 1
            del stamps[0], samples[0]
        return taken

    def _take_window(self, reference_ns: int) -> tuple[Sample, ...]:
        stamps = self.stamps
        end = bisect_right(stamps, reference_ns)
        if end > self._window:
            self._drop_oldest(end - self._window, "unused")
            end = self._window
        start = self._window_start(end)
        fresh = end > self._reused
        reach_ns = self._back_ns if fresh else self._hold_ns
        if end - start < self.stream.least or reference_ns - stamps[end - 1] > reach_ns or not (fresh or self._hold_ns):
            return ()
        used = tuple(self._samples[start:end])
        self._drop_oldest(start, "unused")
        self.used_ns = stamps[len(used) - 1]
        self.counts.sets += 1
        if len(used) > self._reused:
            self.counts.used += len(used) - self._reused
            self._reused = len(used)
        return used

    def _adopt(self, stream: Stream) -> None:
        self.stream = stream
        # What is read for every sample, without the way through the stream.
        self._window, self._ordered, self._depth = stream.window, stream.ordered, stream.depth
        self._tolerance_ns, self._hold_ns, self._timeout_ns = stream.tolerance_ns, stream.hold_ns, stream.timeout_ns
        # How far from the reference a sample may lie that it gets.
        self._back_ns = max(stream.tolerance_ns, stream.hold_ns)
        self._ahead_ns = stream.tolerance_ns if stream.window == 1 else 0

    def _nearest(self, reference_ns: int) -> int | None:
        """The place of the nearest sample that the reference may have; of two as near, the earlier.

        There must be a sample that is not older than the reference.
        """
        stamps = self.stamps
        after = bisect_left(stamps, reference_ns)
        ahead_ns = stamps[after] - reference_ns
        if after:
            behind_ns = reference_ns - stamps[after - 1]
            if behind_ns <= self._back_ns and (behind_ns <= ahead_ns or ahead_ns > self._tolerance_ns):
                return after - 1
        return after if ahead_ns <= self._tolerance_ns else None

    def _steady(self, reference_ns: int) -> bool:
        """Whether the window up to the reference is full and without a gap that another sample would fit in."""
        end = bisect_right(self.stamps, reference_ns)
        window = self.stamps[max(0, end - self._window) : end]
        return (
            len(window) == self._window
            and reference_ns - window[-1] < self.period_ns
            and all(later - earlier < 2 * self.period_ns for earlier, later in zip(window, window[1:]))
        )

    def _window_start(self, end: int) -> int:
        """Where the window that ends before place `end` begins: after the last silence of `timeout_ns` in it."""
        stamps, timeout_ns = self.stamps, self._timeout_ns
        if end and stamps[end - 1] - stamps[0] < timeout_ns:  # as nearly always
            return 0
        for place in range(end - 1, 0, -1):
            if stamps[place] - stamps[place - 1] >= timeout_ns:
                return place
        return 0

    def _drop_oldest(self, number: int, reason: str) -> None:
        if number:
            fresh = number - self._reused
            if fresh > 0:
                self.counts.dropped[reason] += fresh
            self._reused = -fresh if fresh < 0 else 0
            del self.stamps[:number], self._samples[:number]

"""One modality's samples on their way into sets: where they wait, which a reference gets, what became of each."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from smvae_ros.references import NEVER
from smvae_ros.sample_set import Sample

_ROUND = 64


@dataclass(frozen=True)
class Stream:
    """How one modality takes part in the sets. All times are integer nanoseconds.

    Attributes:
        name: the modality.
        tolerance_ns: how far from the reference a sample may lie, on either side. Of a window: its newest sample.
        timeout_ns: silent for so long, the stream is dead: it is not waited for, and a window does not reach back
            across such a silence.
        depth: the most samples kept; the oldest gives way.
        window: 1 for the sample nearest to the reference; more for the newest `window` samples up to the reference.
            Windows slide: what is used once is their newest sample.
        least: the samples with which a window counts as present.
        hold_ns: 0 if a sample is used once; otherwise the age up to which it may be used again.
        offset_ns: added to each stamp, for a sensor whose clock is known to be off.
        period_ns: the least spacing between two samples, 0 if unknown. It only lets sets leave early. Where samples
            turn out to come closer together, the spacing seen is used instead, until some 100 samples later.
        ordered: whether the transport delivers the samples in the order of their stamps.
        enabled: a stream that is not enabled is counted, and in no set.

    Raises:
        ValueError: a value out of its range, named.
    """

    name: str
    tolerance_ns: int
    timeout_ns: int
    depth: int
    window: int = 1
    least: int = 1
    hold_ns: int = 0
    offset_ns: int = 0
    period_ns: int = 0
    ordered: bool = False
    enabled: bool = True

    def __post_init__(self) -> None:
        for key, least in (
            ("tolerance_ns", 0),
            ("timeout_ns", 1),
            ("window", 1),
            ("least", 1),
            ("hold_ns", 0),
            ("period_ns", 0),
        ):
            if getattr(self, key) < least:
                raise ValueError(f"{self.name}: {key} must be at least {least}, found {getattr(self, key)}")
        if self.least > self.window:
            raise ValueError(f"{self.name}: least must be at most the window of {self.window}, found {self.least}")
        if 0 < self.hold_ns < self.tolerance_ns:
            raise ValueError(
                f"{self.name}: hold_ns must be 0 or at least the tolerance of {self.tolerance_ns}, found {self.hold_ns}"
            )
        if self.depth < self.window:
            raise ValueError(f"{self.name}: depth must hold the window of {self.window}, found {self.depth}")


@dataclass
class StreamCounts:
    """What became of a stream's samples: `received = used + sum(dropped) + those still held`.

    `zero_stamp` counts samples that came without a stamp and got the time of arrival; `sets` the sets that the
    modality was in. The reasons in `dropped` are late, duplicate, future, overflow, unused (no set could take it),
    reset and disabled.
    """

    received: int = 0
    used: int = 0
    sets: int = 0
    zero_stamp: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class StreamBuffer:
    """The waiting samples of one stream, in the order of their stamps, at most `depth` of them.

    Attributes:
        arrived_ns: when the last sample arrived; NEVER before the first.
        dead_ns: when the stream is dead, unless another sample arrives.
        lag_ns: how far the last sample's stamp lay behind its arrival.
        newest_ns: the newest stamp.
        used_ns: the newest stamp that was in a set.
        period_ns: the least spacing of samples, as declared or seen.
    """

    def __init__(self, stream: Stream) -> None:
        self.counts = StreamCounts()
        self._adopt(stream)
        self._stamps: list[int] = []
        self._samples: list[Sample] = []
        # The first `_reused` samples have been in a set and wait for another; every one after them is fresh.
        self._reused = 0
        self.clear()

    def __len__(self) -> int:
        """The samples that wait for their first set."""
        return len(self._stamps) - self._reused

    def clear(self) -> None:
        """Forget all samples, counted as `reset`, and all that was learned of the stream's times."""
        self._drop_oldest(len(self._stamps), "reset")
        self.arrived_ns = self.dead_ns = NEVER
        self.lag_ns = 0
        self.newest_ns = NEVER
        self.used_ns = NEVER
        self.period_ns = self._least_ns = self.stream.period_ns
        self._round = 0

    def change(self, stream: Stream) -> None:
        """Go on as another stream; one that is no longer enabled lets go of its samples."""
        if self.stream.enabled and not stream.enabled:
            self._drop_oldest(len(self._stamps), "disabled")
            self.clear()
        self._adopt(stream)

    def wait(self, first_ns: int) -> None:
        """Count the stream as dead its timeout after its last sample, or after `first_ns` if that is later."""
        self.dead_ns = max(self.arrived_ns, first_ns) + self.stream.timeout_ns

    def arrive(self, stamp_ns: int, now_ns: int) -> None:
        """Note that the stream lives."""
        self.arrived_ns = now_ns
        self.dead_ns = now_ns + self.stream.timeout_ns
        self.lag_ns = now_ns - stamp_ns

    def add(self, stamp_ns: int, data: Any, floor_ns: int) -> bool:
        """Put a sample in its place, or count why not; no set can have a stamp below `floor_ns` any more."""
        stamps = self._stamps
        if stamp_ns <= self.used_ns:
            self.counts.dropped["duplicate" if stamp_ns == self.used_ns else "late"] += 1
            return False
        if self._window == 1 and stamp_ns < floor_ns - self._back_ns:
            self.counts.dropped["late"] += 1
            return False
        if stamp_ns > self.newest_ns:
            place = len(stamps)
            spacing = stamp_ns - self.newest_ns
            self.newest_ns = stamp_ns
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
        if spacing < self._least_ns:
            self._least_ns = spacing
        if spacing < self.period_ns:
            self.period_ns = spacing
        self._round += 1
        if self._round == _ROUND:
            # The least spacing of the last round alone: one burst must not make every later set wait.
            self.period_ns, self._least_ns, self._round = self._least_ns, self.stream.period_ns, 0
        stamps.insert(place, stamp_ns)
        self._samples.insert(place, Sample(stamp_ns, data))
        if len(stamps) > self.stream.depth:
            self._drop_oldest(1, "overflow")
        return True

    def alive(self, now_ns: int) -> bool:
        """Whether a sample arrived within the timeout."""
        return now_ns < self.dead_ns and self.arrived_ns != NEVER

    def settled(self, reference_ns: int) -> bool:
        """Whether nothing that can still arrive would change what the reference gets from this stream."""
        period = self.period_ns
        # In an ordered stream, nothing below this stamp can come any more.
        next_ns = self.newest_ns + (period or 1) if self._ordered else NEVER
        if self._window == 1:
            nearest = self._nearest(reference_ns)
            if nearest is None:
                return next_ns > reference_ns + self._tolerance_ns
            distance = abs(self._stamps[nearest] - reference_ns)
            return (
                distance == 0
                or 2 * distance < period
                or next_ns >= reference_ns + min(distance, self._tolerance_ns + 1)
            )
        if self._ordered:
            return next_ns > reference_ns
        end = bisect_right(self._stamps, reference_ns)
        window = self._stamps[max(0, end - self._window) : end]
        return (
            len(window) == self._window
            and reference_ns - window[-1] < period
            and all(later - earlier < 2 * period for earlier, later in zip(window, window[1:]))
        )

    def take(self, reference_ns: int) -> tuple[Sample, ...]:
        """What the reference gets, oldest first, () if nothing; forgets what no later reference can get."""
        if not self._stamps:
            return ()
        if self._window == 1:
            nearest = self._nearest(reference_ns)
            if nearest is None:
                self._drop_oldest(bisect_right(self._stamps, reference_ns - self._back_ns), "unused")
                return ()
            return self._use(nearest, nearest + 1)
        end = bisect_right(self._stamps, reference_ns)
        self._drop_oldest(max(0, end - self._window), "unused")
        end = min(end, self._window)
        start = self._window_start(end)
        fresh = end > self._reused
        reach_ns = self._back_ns if fresh else self._hold_ns
        if (
            end - start < self.stream.least
            or reference_ns - self._stamps[end - 1] > reach_ns
            or not (fresh or self._hold_ns)
        ):
            return ()
        return self._use(start, end)

    def _adopt(self, stream: Stream) -> None:
        self.stream = stream
        # What is read for every sample, without the way through the stream.
        self._window, self._ordered = stream.window, stream.ordered
        self._tolerance_ns, self._hold_ns = stream.tolerance_ns, stream.hold_ns
        self._back_ns = max(stream.tolerance_ns, stream.hold_ns)

    def _nearest(self, reference_ns: int) -> int | None:
        """The place of the nearest sample that the reference may have; of two as near, the earlier."""
        stamps = self._stamps
        after = bisect_left(stamps, reference_ns)
        nearest, distance = None, self._tolerance_ns + 1
        if after < len(stamps) and stamps[after] - reference_ns < distance:
            nearest, distance = after, stamps[after] - reference_ns
        if after:
            age = reference_ns - stamps[after - 1]
            if age <= self._back_ns and (nearest is None or age <= distance):
                nearest = after - 1
        return nearest

    def _window_start(self, end: int) -> int:
        """Where the window that ends before place `end` begins: after the last silence of `timeout_ns` in it."""
        stamps = self._stamps
        for place in range(end - 1, 0, -1):
            if stamps[place] - stamps[place - 1] >= self.stream.timeout_ns:
                return place
        return 0

    def _use(self, start: int, end: int) -> tuple[Sample, ...]:
        used = tuple(self._samples[start:end])
        if start:
            self._drop_oldest(start, "unused")
        counts = self.counts
        counts.sets += 1
        self.used_ns = used[-1].stamp_ns
        if len(used) > self._reused:
            counts.used += len(used) - self._reused
            self._reused = len(used)
        if self._window == 1 and not self._hold_ns:
            self._reused -= 1
            del self._stamps[0], self._samples[0]
        return used

    def _drop_oldest(self, number: int, reason: str) -> None:
        if number:
            fresh = max(0, number - self._reused)
            if fresh:
                self.counts.dropped[reason] += fresh
            self._reused = max(0, self._reused - number)
            del self._stamps[:number], self._samples[:number]

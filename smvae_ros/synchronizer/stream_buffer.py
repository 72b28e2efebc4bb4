"""The samples of one modality that wait for sets."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

from smvae_ros.synchronizer.sample_selection import SampleSelection
from smvae_ros.synchronizer.sample_set import Sample, new_tuple
from smvae_ros.synchronizer.stream import FOREVER, NEVER, Stream, StreamCounts

# Samples after which the least spacing that was observed is measured anew.
_ROUND = 64


class StreamBuffer:
    """The waiting samples of one stream, in the order of their stamps, at most `depth` of them.

    Attributes:
        stamps: the stamps of the waiting samples, oldest first.
        arrived_ns: when the last usable sample arrived; NEVER before the first.
        dead_ns: when the stream becomes dead, unless another usable sample arrives.
        lag_ns: how far the last usable sample's stamp lay behind its arrival; FOREVER before the first.
        advanced_ns: when a stamp last was newer than all before it, usable or not; NEVER before the first.
        advanced_lag_ns: how far that stamp lay behind its arrival.
        back_ns: how far before a reference a sample may lie.
        after_ns: how far after a tick a sample may lie that only this tick can take.
        kept_ns: how long samples are kept at least.
        earlier: samples whose stamps lie so far back that time itself may have jumped, with their stamps.
        newest_ns: the newest stamp.
        used_ns: the newest stamp that was in a set.
        period_ns: the least spacing of samples, declared or observed.
    """

    def __init__(self, stream: Stream) -> None:
        self.counts = StreamCounts()
        self._adopt(stream)
        self.stamps: list[int] = []
        self.earlier: list[tuple[int, Any]] = []
        self._samples: list[Sample] = []
        # The first `_reused` samples have been in a set and may be in another; all after them are fresh.
        self._reused = 0
        self.clear()

    def __len__(self) -> int:
        """Return the number of samples that wait for their first set."""
        return len(self.stamps) - self._reused + len(self.earlier)

    def clear(self) -> None:
        """Drop all samples, counted as `reset`, and forget the times and spacing of the stream."""
        self._drop_oldest(len(self.stamps), "reset")
        self._drop_earlier("reset")
        self.arrived_ns = self.dead_ns = self.advanced_ns = NEVER
        self.lag_ns = self.advanced_lag_ns = FOREVER
        self.newest_ns = self._seen_ns = self._unstamped_ns = NEVER
        # Whether the newest message has the stamp of the one before it.
        self.repeats = False
        self.used_ns = NEVER
        self.period_ns = self._least_ns = self.stream.period_ns
        self._round = 0

    def change(self, stream: Stream) -> None:
        """Take other settings; a stream that becomes disabled drops its samples."""
        if self.stream.enabled and not stream.enabled:
            self._drop_oldest(len(self.stamps), "disabled")
            self._drop_earlier("disabled")
            self.clear()
        self._adopt(stream)

    def wait(self, first_ns: int) -> None:
        """Make the stream dead a timeout after its last sample, or after `first_ns` if that is later."""
        self.dead_ns = max(self.arrived_ns, first_ns) + self.stream.timeout_ns

    def stamp_of_arrival(self, now_ns: int) -> int:
        """Return a stamp for a sample that has none; samples that are read together get one each."""
        self._unstamped_ns = max(now_ns, self._unstamped_ns + 1)
        return self._unstamped_ns

    def is_repeat(self, stamp_ns: int) -> bool:
        """Return whether a stamp is the newest that arrived."""
        return stamp_ns == self._seen_ns

    def advance(self, stamp_ns: int, now_ns: int) -> bool:
        """Note the stamp of any sample that arrived; return whether it is newer than all before it."""
        if self.earlier:
            self._drop_earlier("late")
        self.repeats = self.is_repeat(stamp_ns)
        if stamp_ns <= self._seen_ns:
            return False
        self._seen_ns = stamp_ns
        self.advanced_ns, self.advanced_lag_ns = now_ns, now_ns - stamp_ns
        return True

    def keep_earlier(self, stamp_ns: int, data: Any) -> None:
        """Keep a sample from before a possible jump of time until it is known whether time jumped."""
        self.earlier.append((stamp_ns, data))
        if len(self.earlier) > self._depth:
            del self.earlier[0]
            self.counts.dropped["late"] += 1

    def take_earlier(self) -> list[tuple[int, Any]]:
        """Return the samples from after a jump of time, and forget them; they are no longer counted as received."""
        taken, self.earlier = self.earlier, []
        self.counts.received -= len(taken)
        return taken

    def arrive(self, stamp_ns: int, now_ns: int) -> bool:
        """Note that a usable sample arrived; return whether the stream was dead before."""
        revived = now_ns >= self.dead_ns or self.arrived_ns == NEVER
        self.arrived_ns = now_ns
        self.dead_ns = now_ns + self._timeout_ns
        self.lag_ns = now_ns - stamp_ns
        return revived

    def receive(self, stamp_ns: int, data: Any, set_ns: int, now_ns: int) -> bool:
        """Take a sample that arrives at `now_ns`, as `add` does; return whether it shows a stream that sets can use.

        A late one does if waiting for the next would help. One that leaves its window stretched does not.
        """
        if stamp_ns > self._seen_ns and stamp_ns > set_ns and not self.earlier:  # the usual case
            self.repeats = False
            self._seen_ns = stamp_ns
            self.advanced_ns, self.advanced_lag_ns = now_ns, now_ns - stamp_ns
            self._append(stamp_ns, data)
        else:
            advanced = self.advance(stamp_ns, now_ns)
            if not (self.add(stamp_ns, data, set_ns) or advanced):
                return False
        window = self._window
        if window == 1:
            return True
        stamps = self.stamps
        number = len(stamps)
        if number > window:
            number = window
        return not 0 < self._longest_ns * (number - 1) < stamps[-1] - stamps[-number]

    def add(self, stamp_ns: int, data: Any, set_ns: int) -> bool:
        """Insert a sample by its stamp and return True, or count the reason to drop it and return False.

        Args:
            stamp_ns: the stamp, with the stream's offset.
            data: the sample.
            set_ns: the stamp of the last set.
        """
        stamps = self.stamps
        if stamp_ns <= self.used_ns:
            self.counts.dropped["duplicate" if self.repeats or stamp_ns == self.used_ns else "late"] += 1
            return False
        if stamp_ns <= set_ns and self._window == 1 and stamp_ns <= set_ns - self.back_ns:
            self.counts.dropped["duplicate" if self.repeats else "late"] += 1
            return False
        if stamp_ns > self.newest_ns:
            self._append(stamp_ns, data)
            return True
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
        self._note_spacing(spacing)
        return True

    def _append(self, stamp_ns: int, data: Any) -> None:
        """Take a sample with the newest stamp."""
        spacing = stamp_ns - self.newest_ns
        self.newest_ns = stamp_ns
        self.stamps.append(stamp_ns)
        self._samples.append(new_tuple(Sample, (stamp_ns, data)))
        self._note_spacing(spacing)

    def _note_spacing(self, spacing: int) -> None:
        """Observe the spacing of a sample that was added, and drop the oldest if there is one too many."""
        if spacing < self._least_ns:
            self._least_ns = spacing
        if spacing < self.period_ns:
            self.period_ns = spacing
        self._round += 1
        if self._round == _ROUND:
            # Only the last round counts: one burst must not make every later set wait.
            self.period_ns, self._least_ns, self._round = self._least_ns, self.stream.period_ns, 0
        if len(self.stamps) > self._depth:
            self._drop_oldest(1, "overflow")

    def alive(self, now_ns: int) -> bool:
        """Return whether a usable sample arrived within the timeout."""
        return now_ns < self.dead_ns and self.arrived_ns != NEVER

    def earlier_may_come(self, reference_ns: int, at_ns: int) -> bool:
        """Return whether, at `at_ns`, a reference earlier than this one may still come, after the last one."""
        if self._ordered or at_ns >= self.dead_ns:
            return False
        # They may be too close to each other for one in between.
        return reference_ns - self.used_ns >= max(2, 2 * self.period_ns)

    def settled(self, reference_ns: int) -> bool:
        """Return whether no sample that can still arrive would change what the reference gets from this stream."""
        period_ns = self.period_ns
        if self._ordered:
            # The next sample lies at least this far after the reference.
            next_ns = self.newest_ns - reference_ns + (period_ns or 1)
            if next_ns > self._selection.ahead_ns:
                return True
        else:
            next_ns = NEVER
        if self._window > 1:
            return not self._ordered and self._steady(reference_ns)
        nearest = self._selection.nearest(self.stamps, reference_ns)
        if nearest is None:
            return False
        distance_ns = abs(self.stamps[nearest] - reference_ns)
        return distance_ns <= next_ns or 2 * distance_ns < period_ns or distance_ns == 0

    def take(self, reference_ns: int) -> tuple[Sample, ...]:
        """Return the samples of a reference, oldest first, () if there are none.

        Samples that no later reference can get are dropped. At least one sample must wait.
        """
        if self._window > 1:
            return self._take_window(reference_ns)
        stamps, samples = self.stamps, self._samples
        nearest = self._selection.nearest(stamps, reference_ns)
        if nearest is None:
            self._drop_oldest(bisect_right(stamps, reference_ns - self.back_ns), "unused")
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
        start, end = self._selection.window(self.stamps, reference_ns)
        if start == end or (end <= self._reused and not self._hold_ns):
            self._drop_oldest(max(0, end - self._window), "unused")
            return ()
        if self._selection.is_stretched(self.stamps, start, end):
            self.counts.stretched += 1
            self.counts.span_ns = self.stamps[end - 1] - self.stamps[start]
            self._drop_oldest(start, "stretched")
            return ()
        used = tuple(self._samples[start:end])
        self._drop_oldest(start, "unused")
        self.used_ns = self.stamps[len(used) - 1]
        self.counts.sets += 1
        if len(used) > self._reused:
            self.counts.used += len(used) - self._reused
            self._reused = len(used)
        return used

    def _adopt(self, stream: Stream) -> None:
        self.stream = stream
        self._selection = SampleSelection(stream)
        # Read for every sample: attributes of its own are faster than those of the stream.
        self._window, self._ordered, self._depth = stream.window, stream.ordered, stream.depth
        self._hold_ns, self._timeout_ns = stream.hold_ns, stream.timeout_ns
        self._longest_ns = self._selection.longest_ns
        self.back_ns = self._selection.back_ns
        # Where samples are used again, an older one serves as well.
        self.after_ns = 0 if stream.hold_ns else self._selection.ahead_ns
        self.kept_ns = stream.depth * stream.period_ns or stream.timeout_ns

    def _steady(self, reference_ns: int) -> bool:
        """Return whether the window up to the reference is full, without a gap that another sample would fit in."""
        end = bisect_right(self.stamps, reference_ns)
        window = self.stamps[max(0, end - self._window) : end]
        return (
            len(window) == self._window
            and reference_ns - window[-1] < self.period_ns
            and all(later - earlier < 2 * self.period_ns for earlier, later in zip(window, window[1:]))
        )

    def _drop_earlier(self, reason: str) -> None:
        if self.earlier:
            self.counts.dropped[reason] += len(self.earlier)
            self.earlier = []

    def _drop_oldest(self, number: int, reason: str) -> None:
        """Remove the oldest samples; those that were in no set are counted as dropped for the reason."""
        if number:
            fresh = number - self._reused
            if fresh > 0:
                self.counts.dropped[reason] += fresh
            self._reused = -fresh if fresh < 0 else 0
            del self.stamps[:number], self._samples[:number]

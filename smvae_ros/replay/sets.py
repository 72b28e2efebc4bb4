"""The sets of a bag, under faults or not, each beside what the bag holds for its moment whatever reached the set."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from smvae_ros.replay.faults import Faults
from smvae_ros.replay.samples import Samples
from smvae_ros.replay.spacings import Spacings
from smvae_ros.synchronizer.sample_selection import SampleSelection
from smvae_ros.synchronizer.set_synchronizer import Sample, SampleSet, SetSynchronizer, Stream

# How long after a set went out the bag is still searched for what belongs to it.
_PATIENCE_NS = 500_000_000
# What a stamp may lie before its receive time without being forgotten too early.
_SLACK_NS = 1_000_000_000


@dataclass(frozen=True)
class RecordedSet:
    """A set and the truth to it.

    Attributes:
        sample_set: as a node would have made it.
        recorded: of each modality that the bag has at the set's stamp, its samples, oldest first: what the set holds,
            and, of those that are absent or that a fault touches, what it could hold.
    """

    sample_set: SampleSet
    recorded: dict[str, tuple[Sample, ...]]


class RecordedSets:
    """The sets that a node would make of a bag, with the receive time as its clock and polled at every deadline.

    Attributes:
        faults: on top of it.
        recorded: messages in the bag, by modality.
        lags_ns: by modality, the least and the most time from a message's stamp, if it has one, to its receive time.
        spacings: by modality, the times between its messages.
    """

    def __init__(self, bag: Samples, synchronizer: SetSynchronizer, streams: list[Stream], faults: Faults) -> None:
        self.recorded: Counter[str] = Counter()
        self.lags_ns: dict[str, tuple[int, int]] = {}
        self.spacings: dict[str, Spacings] = defaultdict(Spacings)
        self.faults = faults
        self._bag, self._synchronizer = bag, synchronizer
        # A set may make up for a moment that lies back by the timeout of the reference.
        longest_ns = max([stream.timeout_ns for stream in streams], default=0)
        keep_ns = _PATIENCE_NS + _SLACK_NS + faults.longest_delay_ns + longest_ns
        self._truth = {stream.name: _Truth(stream, keep_ns) for stream in streams}
        self._waiting: deque[SampleSet] = deque()
        self._late: list[tuple[int, int, str, int, Any]] = []

    def __iter__(self) -> Iterator[RecordedSet]:
        synchronizer = self._synchronizer
        order = count()
        epoch = 0
        for modality, receive_ns, stamp_ns, message in self._bag.messages():
            assert self._bag.begin_ns is not None
            self._note(modality, receive_ns, stamp_ns)
            while self._late and self._late[0][0] <= receive_ns:
                self._deliver(*heapq.heappop(self._late))
            self._truth[modality].add(stamp_ns, message, receive_ns)
            arrival_ns = self.faults.arrival(modality, receive_ns, self._bag.begin_ns)
            if arrival_ns == receive_ns:
                self._deliver(receive_ns, 0, modality, stamp_ns, message)
            elif arrival_ns is not None:
                heapq.heappush(self._late, (arrival_ns, next(order), modality, stamp_ns, message))
            if synchronizer.resets != epoch:
                # The stamps begin anew: what the bag had at them before is no truth any more.
                epoch = synchronizer.resets
                yield from self._judged(None)
                for truth in self._truth.values():
                    truth.clear()
                self._truth[modality].add(stamp_ns, message, receive_ns)
            if self._waiting:
                yield from self._judged(receive_ns - _PATIENCE_NS)
        while self._late:
            self._deliver(*heapq.heappop(self._late))
        while (due_ns := synchronizer.next_deadline()) is not None:
            self._waiting += synchronizer.poll(due_ns)
        yield from self._judged(None)

    def _deliver(self, arrival_ns: int, _: int, modality: str, stamp_ns: int, message: Any) -> None:
        synchronizer = self._synchronizer
        while (due_ns := synchronizer.next_deadline()) is not None and due_ns <= arrival_ns:
            self._waiting += synchronizer.poll(due_ns)
        self._waiting += synchronizer.add(modality, stamp_ns, message, arrival_ns)

    def _judged(self, until_ns: int | None) -> Iterator[RecordedSet]:
        while self._waiting and (until_ns is None or self._waiting[0].emitted_ns <= until_ns):
            sample_set = self._waiting.popleft()
            found = {
                name: sample_set.samples.get(name, ()) if name not in self.faults.touched else ()
                for name in self._truth
            }
            found = {name: samples or self._truth[name].at(sample_set.stamp_ns) for name, samples in found.items()}
            yield RecordedSet(sample_set, {name: samples for name, samples in found.items() if samples})

    def _note(self, modality: str, receive_ns: int, stamp_ns: int) -> None:
        self.recorded[modality] += 1
        self.spacings[modality].add(stamp_ns if stamp_ns > 0 else receive_ns)
        if stamp_ns > 0:
            lag_ns = receive_ns - stamp_ns
            least_ns, most_ns = self.lags_ns.get(modality, (lag_ns, lag_ns))
            self.lags_ns[modality] = (min(lag_ns, least_ns), max(lag_ns, most_ns))


class _Truth:
    """The samples that the bag holds of one modality around now, whether they reached a set or not."""

    def __init__(self, stream: Stream, keep_ns: int) -> None:
        self._selection = SampleSelection(stream)
        self._offset_ns = stream.offset_ns
        # A window reaches back at most this far, since it does not reach across a silence of the timeout.
        self._keep_ns = keep_ns + stream.timeout_ns * stream.window + stream.hold_ns + stream.tolerance_ns
        self._stamps: list[int] = []
        self._samples: list[tuple[Sample, int]] = []

    def add(self, stamp_ns: int, message: Any, receive_ns: int) -> None:
        stamp_ns = stamp_ns + self._offset_ns if stamp_ns > 0 else receive_ns
        if self._stamps and stamp_ns <= self._stamps[-1]:
            place = bisect_left(self._stamps, stamp_ns)
            if self._stamps[place] == stamp_ns:
                return
        else:
            place = len(self._stamps)
        self._stamps.insert(place, stamp_ns)
        self._samples.insert(place, (Sample(stamp_ns, message), receive_ns))
        # In steps, because removing the front of a list moves all of the rest.
        if len(self._samples) % 128 == 0:
            old = next((n for n, (_, at_ns) in enumerate(self._samples) if at_ns > receive_ns - self._keep_ns), 0)
            del self._stamps[:old], self._samples[:old]

    def clear(self) -> None:
        self._stamps.clear()
        self._samples.clear()

    def at(self, stamp_ns: int) -> tuple[Sample, ...]:
        """Return the samples for a set of that stamp, by the synchroniser's rule; () if there are none."""
        start, end = self._selection.select(self._stamps, stamp_ns)
        return tuple(sample for sample, _ in self._samples[start:end])

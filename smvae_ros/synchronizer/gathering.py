"""The gathering of sets: the samples of each reference, once no other can come or its wait is over."""

from __future__ import annotations

from collections.abc import Sequence

from smvae_ros.synchronizer.reference_queue import ReferenceQueue
from smvae_ros.synchronizer.sample_set import Reason, Sample, SampleSet, new_tuple
from smvae_ros.synchronizer.stream import NEVER
from smvae_ros.synchronizer.stream_buffer import StreamBuffer


class Gathering:
    """The references that wait, and the sets that they become.

    Attributes:
        references: that wait.
        stamp_ns: the stamp of the last set; NEVER before the first.
        made_up_ns: the newest stamp of a tick that makes up for a silence of the reference; NEVER before the first.
        blocker: the stream that the oldest reference waits for; None if none waits.
        living: the streams other than the reference, without those that were found dead and have not come back.
        sets: the number of sets, by reason.
        empty_ticks: ticks without any sample, which became no set.
    """

    def __init__(self) -> None:
        self.references = ReferenceQueue()
        self.sets: dict[str, int] = {}
        self.empty_ticks = 0
        self._enabled: Sequence[StreamBuffer] = ()
        self._reference: StreamBuffer | None = None
        self.living: Sequence[StreamBuffer] = ()
        self.restart()

    def restart(self) -> None:
        """Remove all references, and forget the last set."""
        self.references.clear()
        self.blocker: StreamBuffer | None = None
        self.stamp_ns = self.made_up_ns = NEVER

    def arrange(
        self, enabled: Sequence[StreamBuffer], reference: StreamBuffer | None, others: Sequence[StreamBuffer]
    ) -> None:
        """Take the streams that are enabled, the one that opens sets, and the others of them."""
        self._enabled, self._reference, self.living = enabled, reference, others

    @property
    def last_ns(self) -> int:
        """The newest stamp of a reference that waits or became a set; NEVER before the first."""
        newest = self.references.newest
        return self.stamp_ns if newest is None else newest.stamp_ns

    def emit(self, at_ns: int, now_ns: int, epoch: int, sets: list[SampleSet]) -> None:
        """Append to `sets` the sets of the references that need not wait any longer at `at_ns`, oldest first.

        Args:
            at_ns: when that is judged.
            now_ns: the time.
            epoch: of the sets.
            sets: the list.
        """
        references, reference = self.references, self._reference
        self.blocker = None
        while (first := references.first) is not None:
            stamp_ns, opened_ns, _, tick = first
            blocker = self._blocking(stamp_ns, tick, at_ns)
            if blocker is None:
                reason: Reason = "complete"
            # An earlier reference may not hold up a later one beyond its deadline.
            elif references.due_ns <= at_ns:
                reason = "deadline"
            elif reference is not None and len(reference.stamps) == reference.stream.depth:
                reason = "overflow"
            else:
                self.blocker = blocker
                break
            references.close()
            samples: dict[str, tuple[Sample, ...]] = {}
            for each in self._enabled:
                if each.stamps and (taken := each.take(stamp_ns)):
                    samples[each.stream.name] = taken
            if not samples:
                self.empty_ticks += 1
                continue
            made_up = False
            if tick:
                reason, made_up = "tick", stamp_ns <= self.made_up_ns
            self.stamp_ns = stamp_ns
            self.sets[reason] = self.sets.get(reason, 0) + 1
            sets.append(new_tuple(SampleSet, (stamp_ns, epoch, samples, reason, opened_ns, now_ns, made_up)))

    def _blocking(self, stamp_ns: int, tick: bool, at_ns: int) -> StreamBuffer | None:
        """Return a live stream that could still bring a sample that changes the set; None if there is none."""
        reference = self._reference
        if not tick and reference is not None and reference.earlier_may_come(stamp_ns, at_ns):
            return reference
        for buffer in self.living:
            if buffer.dead_ns <= at_ns:
                self.living = [each for each in self.living if each is not buffer]
            elif not buffer.settled(stamp_ns):
                return buffer
        return None

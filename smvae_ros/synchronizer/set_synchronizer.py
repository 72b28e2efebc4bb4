"""The synchroniser: stamped samples of several modalities in, sets of samples that belong together out.

Plain Python on integer nanoseconds. Every call brings the time as `now_ns`, so the node and the replay run the same
code and get the same sets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from smvae_ros.synchronizer.gathering import Gathering
from smvae_ros.synchronizer.sample_set import Reason, Sample, SampleSet
from smvae_ros.synchronizer.silence import Silence
from smvae_ros.synchronizer.stream import FOREVER, NEVER, Stream, StreamCounts, checked_streams
from smvae_ros.synchronizer.stream_buffer import StreamBuffer
from smvae_ros.synchronizer.stream_clocks import ReferenceClock, in_time
from smvae_ros.synchronizer.ticks import Ticks

__all__ = ["Reason", "Sample", "SampleSet", "SetSynchronizer", "Stream", "StreamCounts"]


class SetSynchronizer:
    """The collector of stamped samples into sets, one set for each reference. It never blocks.

    A reference is a sample of the modality `reference`. If none is named, or it is silent for its timeout, ticks of the
    clock are the references, every `tick_ns`, as long as any other stream is alive. References are served in the order
    of their stamps.

    Once the reference counts as silent, ticks at its own rate make up for the time in which it was waited for, so that
    nothing that the other streams brought meanwhile is lost.

    A set leaves as soon as no sample that a live stream could still bring would change it, and at most `max_wait_ns`
    after its reference arrived, with the samples that are there. So the same stamped samples give the same sets in any
    order of arrival, if the samples of a reference arrive within `max_wait_ns` after it and no dead stream comes back
    meanwhile.

    A clock that goes back by more than `max_wait_ns`, or a stream whose stamps go back by far more, starts a new epoch.

    Not safe for concurrent use. It calls no code of its user: sets are returned.

    Args:
        streams: one for each modality.
        reference: the modality whose samples open sets, or None for ticks alone.
        max_wait_ns: how long a reference waits at most.
        tick_ns: the spacing of ticks. They are opened at its multiples, and lie back by as much as samples come late.
        future_ns: how far ahead of the clock a stamp may be.
        simulated: see the attribute.

    Raises:
        ValueError: two streams of one name, an unknown or windowed reference, a value out of range.

    Attributes:
        counts: the account of the samples, by modality.
        sets: the number of sets that went out, by reason.
        resets: how often time jumped back or `reset()` was called; also the epoch of the next set.
        simulated: whether time comes in messages of its own, which samples of that time may overtake. A reference whose
            stamp is ahead of the clock then waits from its stamp on. It may be set at any time.
    """

    def __init__(
        self,
        streams: Iterable[Stream],
        *,
        reference: str | None,
        max_wait_ns: int,
        tick_ns: int,
        future_ns: int,
        simulated: bool = False,
    ) -> None:
        streams = checked_streams(streams, reference)
        for key, value, least in (("tick_ns", tick_ns, 1), ("future_ns", future_ns, 0)):
            if value < least:
                raise ValueError(f"{key} must be at least {least}, found {value}")
        self._reference_name = reference
        self._future_ns = future_ns
        self.simulated = simulated
        self._buffers = {stream.name: StreamBuffer(self._fitted(stream)) for stream in streams}
        self._first_ns: int | None = None
        self._now_ns = NEVER
        self._wake_ns = FOREVER
        self._ticks = Ticks(tick_ns)
        self._gathering = Gathering()
        period_ns = self._buffers[reference].stream.period_ns if reference is not None else 0
        self._silence = Silence(self._gathering, self._ticks, period_ns)
        self._clock = ReferenceClock()
        self._arrange(max_wait_ns, ())
        self.counts: dict[str, StreamCounts] = {name: buffer.counts for name, buffer in self._buffers.items()}
        self.sets = self._gathering.sets
        self.resets = 0
        self._restart()

    def add(self, modality: str, stamp_ns: int, sample: Any, now_ns: int) -> list[SampleSet]:
        """Take a sample that arrives at `now_ns`, and return the sets that leave, those already due first.

        A stamp of 0 or less means that the sample has none: it gets the time of arrival, 1 ns after the one before if
        both arrive at once.

        Raises:
            ValueError: a modality without a stream.
        """
        buffer = self._buffers.get(modality)
        if buffer is None:
            raise self._unknown(modality)
        sets: list[SampleSet] = []
        if now_ns < self._now_ns or self._wake_ns <= now_ns:
            sets = self.poll(now_ns)
            now_ns = self._now_ns
        self._now_ns = now_ns
        stream, counts = buffer.stream, buffer.counts
        counts.received += 1
        if not stream.enabled:
            counts.dropped["disabled"] += 1
            return sets
        if stamp_ns > 0:
            stamp_ns += stream.offset_ns
            if stamp_ns > now_ns and stamp_ns > now_ns + self._future_ns:
                counts.dropped["future"] += 1
                return sets + self._without_sample(buffer, stamp_ns, now_ns)
        else:
            counts.zero_stamp += 1
            stamp_ns = buffer.stamp_of_arrival(now_ns)
        if stamp_ns < buffer.newest_ns and stamp_ns < buffer.newest_ns - self._jump_ns:
            buffer.keep_earlier(stamp_ns, sample)
            return sets + self._restart_if_all_jumped(now_ns) + self._without_sample(buffer, stamp_ns, now_ns)
        if self._first_ns is None:
            self._first_ns = now_ns
            for each in self._enabled:
                each.wait(now_ns)
        if buffer is self._reference:
            self._add_reference(buffer, stamp_ns, sample, now_ns)
            self._emit(now_ns, now_ns, sets)
            return sets
        revived = False
        if buffer.receive(stamp_ns, sample, self._gathering.stamp_ns, now_ns):
            lag_ns = now_ns - stamp_ns
            if lag_ns <= self._prompt_ns + buffer.back_ns or in_time(
                buffer, lag_ns, self._reference, self._others, self._max_wait_ns, now_ns
            ):
                revived = buffer.arrive(stamp_ns, now_ns)
        if buffer is self._gathering.blocker:
            self._emit(now_ns, now_ns, sets)
        elif revived:
            self._gathering.living = self._others
            self._schedule()
        return sets

    def reject(self, modality: str, now_ns: int) -> list[SampleSet]:
        """Count a sample that arrives at `now_ns` with content that cannot be used; return the sets that are due.

        It does not keep the stream alive.
        """
        buffer = self._buffers.get(modality)
        if buffer is None:
            raise self._unknown(modality)
        buffer.counts.received += 1
        buffer.counts.dropped["rejected" if buffer.stream.enabled else "disabled"] += 1
        sets = self.poll(now_ns)
        return sets + self._without_sample(buffer, None, self._now_ns)

    def reject_used(self, modality: str, samples: int) -> None:
        """Count samples of a set as rejected instead of used: their content proved unusable when it was converted."""
        self.counts[modality].reject_used(samples)

    def poll(self, now_ns: int) -> list[SampleSet]:
        """Return the sets that are due by `now_ns`."""
        if now_ns < self._now_ns and now_ns < self._now_ns - self._max_wait_ns:
            self.reset()
        sets: list[SampleSet] = []
        # A late call changes nothing: every tick and deadline is handled at its own time.
        while (at_ns := self._wake_ns) <= now_ns:
            if at_ns == self._silence.ends_ns:
                self._make_up(at_ns)
            if at_ns == self._ticks.due_ns:
                self._tick(at_ns)
            self._now_ns = at_ns
            self._emit(at_ns, now_ns, sets)
        if now_ns > self._now_ns:
            self._now_ns = now_ns
        return sets

    def next_deadline(self) -> int | None:
        """Return the time to poll next, in nanoseconds; None if nothing happens before the next sample."""
        return self._wake_ns if self._wake_ns < FOREVER else None

    def reset(self) -> None:
        """Drop all samples and references, keep the counts, and start a new epoch."""
        self.resets += 1
        self._restart()

    def change(
        self, streams: Iterable[Stream], max_wait_ns: int, now_ns: int, future_ns: int | None = None
    ) -> list[SampleSet]:
        """Change the settings of some streams and the longest wait, and return the sets that leave because of it.

        A stream that becomes disabled drops its samples. Waiting references keep their deadlines. `future_ns` stays as
        it is if it is None.

        Raises:
            ValueError: an unknown stream, or a value out of range.
        """
        fitted = [self._fitted(stream) for stream in streams]
        if unknown := [stream.name for stream in fitted if stream.name not in self._buffers]:
            raise ValueError(f"expected streams of {', '.join(self._buffers)}, found {', '.join(unknown)}")
        sets = self.poll(now_ns)
        if future_ns is not None:
            self._future_ns = future_ns
        self._arrange(max_wait_ns, fitted)
        if self._reference is None:
            self._gathering.references.keep_ticks()
            if self._silence.ends_ns < FOREVER:
                self._make_up(now_ns)
        self._emit(now_ns, now_ns, sets)
        return sets

    @property
    def empty_ticks(self) -> int:
        """The number of ticks without any sample, which became no set."""
        return self._gathering.empty_ticks

    def alive(self, modality: str, now_ns: int) -> bool:
        """Return whether a sample of the modality arrived within its timeout."""
        return self._buffers[modality].alive(now_ns)

    def held(self, modality: str) -> int:
        """Return the number of samples of the modality that wait for their first set."""
        return len(self._buffers[modality])

    def _unknown(self, modality: str) -> ValueError:
        return ValueError(f"expected a sample of {', '.join(self._buffers)}, found {modality}")

    def _fitted(self, stream: Stream) -> Stream:
        return stream.as_reference() if stream.name == self._reference_name else stream

    def _arrange(self, max_wait_ns: int, changed: Iterable[Stream]) -> None:
        if max_wait_ns < 0:
            raise ValueError(f"max_wait_ns must be at least 0, found {max_wait_ns}")
        for stream in changed:
            self._buffers[stream.name].change(stream)
        self._max_wait_ns = max_wait_ns
        # A sample in the wrong order is about max_wait_ns late at most; ten times that is a bag that starts again.
        self._jump_ns = max(10 * max_wait_ns, 500_000_000)
        self._enabled = [buffer for buffer in self._buffers.values() if buffer.stream.enabled]
        self._others = [buffer for buffer in self._enabled if buffer.stream.name != self._reference_name]
        self._reference = next((b for b in self._enabled if b.stream.name == self._reference_name), None)
        if self._first_ns is not None:
            for buffer in self._enabled:
                buffer.wait(self._first_ns)
        self._gathering.arrange(self._enabled, self._reference, self._others)
        self._silence.arrange(self._reference, self._others, max_wait_ns)
        self._alive_until_ns = NEVER
        self._prompt_ns = max_wait_ns
        if self._reference is not None:
            self._prompt_ns += min(0, self._reference.lag_ns)
            if self._silence.ends_ns < FOREVER:
                self._silence.ends_ns = max(self._reference.dead_ns, self._now_ns + 1)

    def _restart(self) -> None:
        for buffer in self._buffers.values():
            buffer.clear()
        self._gathering.restart()
        self._gathering.living = self._others
        self._first_ns = None
        self._now_ns = NEVER
        # A sample that lags no more than this, and its reach, is in time for sets.
        self._prompt_ns = self._max_wait_ns
        self._wake_ns = FOREVER
        self._ticks.restart()
        self._silence.restart()
        self._clock.restart()
        # Until then at least one stream that could fill a tick is alive.
        self._alive_until_ns = NEVER

    def _restart_if_all_jumped(self, now_ns: int) -> list[SampleSet]:
        """Start a new epoch if no live stream has gone on since the first stamp that lies far back.

        A single stream whose stamps go back has a fault, and costs only itself.
        """
        advancing = [each for each in self._enabled if now_ns < each.advanced_ns + each.stream.timeout_ns]
        if not all(each.earlier for each in advancing):
            return []
        earlier = [(name, *one) for name, each in self._buffers.items() for one in each.take_earlier()]
        self.reset()
        sets: list[SampleSet] = []
        for name, stamp_ns, sample in sorted(earlier, key=lambda one: one[1]):
            sets += self.add(name, stamp_ns - self._buffers[name].stream.offset_ns, sample, now_ns)
        return sets

    def _add_reference(self, buffer: StreamBuffer, stamp_ns: int, sample: Any, now_ns: int) -> None:
        references, set_ns = self._gathering.references, self._gathering.stamp_ns
        time_ns = max(now_ns, stamp_ns) if self.simulated else now_ns
        lag_ns = time_ns - stamp_ns
        if not self._clock.is_right(buffer, lag_ns, self._others, self._max_wait_ns, now_ns):
            reason = "late" if stamp_ns <= set_ns else "unmatched"
            buffer.counts.dropped["duplicate" if buffer.is_repeat(stamp_ns) else reason] += 1
            self._silence.go_on(now_ns, stamp_ns)
            return
        advanced = buffer.advance(stamp_ns, now_ns)
        # A reference that repeats stamps, or lags behind the sets by more than its timeout, counts as silent: ticks go
        # on. One that is late because of ticks is back.
        if advanced and stamp_ns > set_ns - buffer.stream.timeout_ns:
            buffer.arrive(stamp_ns, now_ns)
            self._silence.ends_ns = buffer.dead_ns
            self._prompt_ns = self._max_wait_ns + min(0, lag_ns)
        if buffer.add(stamp_ns, sample, set_ns):
            self._silence.end(stamp_ns, now_ns)
            references.open(stamp_ns, now_ns, time_ns + self._max_wait_ns, tick=False)
        else:
            self._silence.go_on(now_ns, stamp_ns)

    def _without_sample(self, buffer: StreamBuffer, stamp_ns: int | None, now_ns: int) -> list[SampleSet]:
        """Return the sets that leave because a message brings no sample: those of a reference go out without it."""
        sets: list[SampleSet] = []
        if buffer is self._reference:
            self._silence.go_on(now_ns, stamp_ns)
            self._emit(now_ns, now_ns, sets)
        return sets

    def _tick(self, at_ns: int) -> None:
        stamp_ns = self._ticks.open(at_ns, self._gathering.living, self._max_wait_ns)
        if stamp_ns is not None and stamp_ns > self._gathering.last_ns:
            self._gathering.references.open(stamp_ns, at_ns, at_ns + self._max_wait_ns, tick=True)

    def _make_up(self, at_ns: int) -> None:
        self._silence.make_up(at_ns, self._buffers[self._reference_name or ""].stream.timeout_ns)

    def _emit(self, at_ns: int, now_ns: int, sets: list[SampleSet]) -> None:
        self._gathering.emit(at_ns, now_ns, self.resets, sets)
        self._schedule()

    def _schedule(self) -> None:
        """Compute the next tick, if a stream that could fill it is alive, and the time to poll next."""
        now_ns, wake_ns, gathering = self._now_ns, FOREVER, self._gathering
        if self._alive_until_ns <= now_ns and gathering.living:
            seen = [buffer.dead_ns for buffer in gathering.living if buffer.arrived_ns != NEVER]
            self._alive_until_ns = max(seen, default=NEVER)
        if now_ns < self._alive_until_ns:
            start_ns = self._first_ns if self._reference is None else self._reference.dead_ns
            if start_ns is None or start_ns <= now_ns:
                start_ns = now_ns + 1
            wake_ns = self._ticks.plan(start_ns)
        else:
            self._ticks.due_ns = FOREVER
        if self._silence.ends_ns < wake_ns:
            wake_ns = self._silence.ends_ns
        if gathering.references.due_ns < wake_ns:
            wake_ns = gathering.references.due_ns
        if gathering.blocker is not None and gathering.blocker.dead_ns < wake_ns:
            wake_ns = gathering.blocker.dead_ns
        self._wake_ns = wake_ns

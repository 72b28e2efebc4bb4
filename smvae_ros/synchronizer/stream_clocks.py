"""The clocks of streams, judged by how long after their stamps samples arrive (their lag)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from smvae_ros.synchronizer.stream import NEVER
from smvae_ros.synchronizer.stream_buffer import StreamBuffer

# About half a second of a camera.
_REMEMBERED = 15


def in_time(
    buffer: StreamBuffer,
    lag_ns: int,
    reference: StreamBuffer | None,
    others: Iterable[StreamBuffer],
    max_wait_ns: int,
    now_ns: int,
) -> bool:
    """Return whether samples with this lag reach sets that wait as long as they may.

    Args:
        buffer: of the stream that is judged.
        lag_ns: of its newest sample.
        reference: the stream whose samples open sets; None if ticks do.
        others: the streams other than the reference.
        max_wait_ns: how long a set waits at most.
        now_ns: the time.
    """
    if reference is not None and now_ns < reference.dead_ns and reference.arrived_ns != NEVER:
        first_ns = reference.lag_ns
    else:
        # Ticks lie as far back as the promptest stream.
        first_ns = max(0, min([lag_ns, *(each.lag_ns for each in others if now_ns < each.dead_ns)]))
    return lag_ns - first_ns <= max_wait_ns + buffer.back_ns


class ReferenceClock:
    """The clock of the reference: whether the stamps of its messages are of the clock of the other streams."""

    def __init__(self) -> None:
        self._lags: deque[int] = deque(maxlen=_REMEMBERED)
        self.restart()

    def restart(self) -> None:
        """Forget everything, because time jumped."""
        self._matched_ns = NEVER
        self._lags.clear()

    def is_right(
        self, buffer: StreamBuffer, lag_ns: int, others: Iterable[StreamBuffer], max_wait_ns: int, now_ns: int
    ) -> bool:
        """Return whether a message may open a set.

        One may not whose stamp leaps ahead of those of the others and of the messages before it, one that comes later
        than another stream keeps its samples, and any if no message has matched for the timeout of the reference.

        Args:
            buffer: of the reference.
            lag_ns: from the message's stamp to its arrival.
            others: the other streams.
            max_wait_ns: how long a set waits at most.
            now_ns: when the message arrives.
        """
        if lag_ns > max_wait_ns and _is_too_late(others, lag_ns, max_wait_ns, now_ns):
            return False
        is_known = now_ns - self._matched_ns < buffer.stream.timeout_ns
        if is_known and self._leaps(lag_ns, others, max_wait_ns, now_ns):
            return False
        if self._matched_ns == NEVER or _has_clock_of(others, lag_ns, max_wait_ns, now_ns):
            if not is_known:
                self._lags.clear()
            self._matched_ns = now_ns
            self._lags.append(lag_ns)
            return True
        return is_known

    def _leaps(self, lag_ns: int, others: Iterable[StreamBuffer], max_wait_ns: int, now_ns: int) -> bool:
        """Return whether a stamp lies ahead of most messages that matched, and of the others, by the longest wait.

        One that is ahead of the time itself need not be ahead of all of the others: its set would leave without those
        that it is ahead of, and theirs would come too late for the next.
        """
        ahead_ns = lag_ns + max_wait_ns
        if ahead_ns > max(self._lags):  # the usual case
            return False
        usual_ns = sorted(self._lags)[len(self._lags) // 2]
        if lag_ns >= usual_ns or ahead_ns > usual_ns:
            return False
        is_ahead = [
            each.advanced_lag_ns >= ahead_ns for each in others if now_ns < each.advanced_ns + each.stream.timeout_ns
        ]
        return any(is_ahead) if lag_ns < 0 else all(is_ahead)


def _is_too_late(others: Iterable[StreamBuffer], lag_ns: int, max_wait_ns: int, now_ns: int) -> bool:
    """Return whether a reference comes later than a prompt stream keeps its samples, although others keep theirs."""
    kept = [
        lag_ns - each.advanced_lag_ns <= each.kept_ns
        for each in others
        if now_ns < each.advanced_ns + each.stream.timeout_ns and 0 <= each.advanced_lag_ns <= max_wait_ns
    ]
    return any(kept) and not all(kept)


def _has_clock_of(others: Iterable[StreamBuffer], lag_ns: int, max_wait_ns: int, now_ns: int) -> bool:
    """Return whether a reference with this lag has the clock of the other streams.

    It has the clock of a stream whose samples for the same stamp arrive before the deadline and are still kept. If most
    streams have another clock, the reference is right only with the stream whose stamps are nearest to the time of
    arrival, or if its own are nearest.
    """
    votes = 0
    nearest_ns, with_nearest = abs(lag_ns), True
    for each in others:
        if now_ns < each.advanced_ns + each.stream.timeout_ns:
            matched = -each.kept_ns <= each.advanced_lag_ns - lag_ns <= max_wait_ns
            votes += 1 if matched else -1
            if abs(each.advanced_lag_ns) < nearest_ns:
                nearest_ns, with_nearest = abs(each.advanced_lag_ns), matched
    return votes >= 0 or with_nearest

"""The ticks of the clock: when they open references, and which stamps those have."""

from __future__ import annotations

from collections.abc import Iterable

from smvae_ros.synchronizer.stream import FOREVER, NEVER
from smvae_ros.synchronizer.stream_buffer import StreamBuffer

# Ticks that lie back come nearer by this part of their spacing each, so that no sample falls between two of them.
_NEARER = 50


class Ticks:
    """The ticks of the clock, opened at multiples of their spacing. All times are integer nanoseconds.

    Attributes:
        spacing_ns: from tick to tick.
        due_ns: when the next tick opens a reference; FOREVER if none is planned.
        back_ns: how far before that time its stamp lies.
    """

    def __init__(self, spacing_ns: int) -> None:
        self.spacing_ns = spacing_ns
        self.restart()

    def restart(self) -> None:
        """Plan no tick, and forget how far ticks lay back."""
        self.due_ns, self.back_ns = FOREVER, 0

    def next_ns(self, start_ns: int) -> int:
        """Return when the first tick falls that is not before `start_ns`."""
        return -(-start_ns // self.spacing_ns) * self.spacing_ns

    def plan(self, start_ns: int) -> int:
        """Plan the first tick that is not before `start_ns`, and return when it is due."""
        if not 0 <= self.due_ns - start_ns < self.spacing_ns:
            self.due_ns = self.next_ns(start_ns)
        return self.due_ns

    def open(self, at_ns: int, streams: Iterable[StreamBuffer], max_wait_ns: int) -> int | None:
        """Return the stamp of the tick that is due at `at_ns`, and plan the next; None if no live stream can fill it.

        Args:
            at_ns: the time.
            streams: that may be in its set.
            max_wait_ns: how long the tick's set waits at most.
        """
        self.due_ns = at_ns + self.spacing_ns
        back_ns = ticks_back_ns(at_ns, streams, max_wait_ns)
        if back_ns is None:
            return None
        self.back_ns = max(back_ns, self.back_ns - self.spacing_ns // _NEARER)
        return at_ns - self.back_ns


def ticks_back_ns(at_ns: int, streams: Iterable[StreamBuffer], max_wait_ns: int) -> int | None:
    """Return how far before the time a tick must lie, so that the samples within its reach arrive while it waits.

    Args:
        at_ns: the time.
        streams: that may be in its set.
        max_wait_ns: how long it waits.

    Returns:
        The time; None if no stream is alive.
    """
    prompt_ns, late_ns = FOREVER, max_wait_ns - 1
    for each in streams:
        if at_ns < each.dead_ns and each.arrived_ns != NEVER:
            lag_ns = each.lag_ns
            if lag_ns < prompt_ns:
                prompt_ns = lag_ns
            if lag_ns + each.after_ns > late_ns:
                late_ns = lag_ns + each.after_ns
    if prompt_ns == FOREVER:
        return None
    back_ns = late_ns + 1 - max_wait_ns
    # Where all stamps lie far behind the clock, ticks follow the promptest stream.
    return prompt_ns if max_wait_ns < prompt_ns and back_ns < prompt_ns else back_ns

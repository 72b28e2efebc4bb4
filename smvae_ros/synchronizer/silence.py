"""Ticks in place of references that did not come, or could not be used."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection

from smvae_ros.synchronizer.gathering import Gathering
from smvae_ros.synchronizer.rhythm import Rhythm
from smvae_ros.synchronizer.stream import FOREVER, NEVER
from smvae_ros.synchronizer.stream_buffer import StreamBuffer
from smvae_ros.synchronizer.ticks import Ticks, ticks_back_ns

# Ticks that make up for one silence at most: half a second of a camera at 60 Hz. Ticks of the clock come at most so
# many times as often as their own spacing says.
_MOST = 32


class Silence:
    """The silence of the reference, and the ticks that make up for it, at its own rhythm.

    The reference is silent from its last sample until the next, or until it counts as dead and ticks of the clock go
    on. Messages that cannot be used are silence as well.

    Args:
        gathering: takes the ticks.
        ticks: of the clock. Where the reference's rhythm is faster than theirs by a tenth, they follow it.
        period_ns: the declared least spacing of the reference's samples; 0 if unknown.

    Attributes:
        ends_ns: when the reference, which is waited for, counts as dead; FOREVER while it is not waited for.
    """

    def __init__(self, gathering: Gathering, ticks: Ticks, period_ns: int) -> None:
        self._gathering, self._ticks, self._tick_ns = gathering, ticks, ticks.spacing_ns
        self._rhythm = Rhythm(period_ns)
        self._reference: StreamBuffer | None = None
        self._others: Collection[StreamBuffer] = ()
        self._max_wait_ns = 0
        self.restart()

    def restart(self) -> None:
        """Forget everything, because time jumped."""
        self._rhythm.restart()
        self._ticks.spacing_ns = self._tick_ns
        self.ends_ns = FOREVER

    def arrange(self, reference: StreamBuffer | None, others: Collection[StreamBuffer], max_wait_ns: int) -> None:
        """Take the streams that are enabled, and how long a reference waits at most."""
        self._reference, self._others, self._max_wait_ns = reference, others, max_wait_ns

    def end(self, stamp_ns: int, now_ns: int) -> None:
        """Fill the gap before a sample of the reference, and remove the ticks that stood in for it."""
        self._note(now_ns, stamp_ns)
        reference, references = self._reference, self._gathering.references
        assert reference is not None
        if references.first is not None:
            # Samples that waiting ticks would take belong to the reference.
            near_ns = self._rhythm.spacing_ns or FOREVER
            newest = stamp_ns == reference.newest_ns
            references.remove_ticks(stamp_ns - near_ns, FOREVER if newest else stamp_ns + near_ns)
        if reference.alive(now_ns):
            self._fill(stamp_ns, now_ns)

    def go_on(self, now_ns: int, stamp_ns: int | None) -> None:
        """Fill the gap that a message of the reference leaves that cannot be used, and those before it."""
        self._note(now_ns, stamp_ns)
        reference = self._reference
        if reference is not None and reference.alive(now_ns):
            self._fill(now_ns - max(0, reference.lag_ns), now_ns)

    def make_up(self, at_ns: int, timeout_ns: int) -> None:
        """Open the ticks that were waited for, until the first tick that is opened from now on.

        They lie where another stream brought something, or still may. If they would be more than 32, they lie further
        apart.

        Args:
            at_ns: the time, at which the reference counts as dead.
            timeout_ns: how long the reference was waited for.
        """
        self.ends_ns = FOREVER
        last_ns, ticks, others = self._gathering.last_ns, self._ticks, self._others
        if last_ns == NEVER:
            return
        max_wait_ns = self._max_wait_ns
        spacing_ns = self._rhythm.spacing_ns or ticks.spacing_ns
        back_ns = max(ticks_back_ns(at_ns, others, max_wait_ns) or 0, ticks.back_ns)
        end_ns = ticks.next_ns(at_ns) - back_ns
        newest_ns = max([each.newest_ns for each in others], default=NEVER)
        if newest_ns < at_ns - back_ns - timeout_ns // 2:  # all fell silent together, as at the end of a bag
            end_ns = newest_ns + 1
        # Nothing was waited for longer. An older stamp is of a reference with another clock.
        begin_ns = max(last_ns, end_ns - timeout_ns - ticks.spacing_ns - max_wait_ns)
        spacing_ns = max(spacing_ns, -(-(end_ns - begin_ns) // _MOST))
        first_ns = last_ns + ((begin_ns - last_ns) // spacing_ns + 1) * spacing_ns
        for stamp_ns in range(first_ns, end_ns, spacing_ns):
            due_ns = stamp_ns + back_ns + max_wait_ns
            # A pause of all streams is no silence of the reference.
            if due_ns > at_ns or self._is_brought(stamp_ns, spacing_ns):
                self._open(stamp_ns, at_ns, due_ns)

    def _note(self, now_ns: int, stamp_ns: int | None) -> None:
        self._rhythm.note(now_ns, stamp_ns)
        spacing_ns = self._rhythm.spacing_ns
        # Else a reference of the same rate would take the ticks off the multiples of their own spacing.
        faster = self._rhythm.is_steady and 10 * spacing_ns < 9 * self._tick_ns
        # A burst, or stamps that nearly repeat, must not set off ticks without end.
        self._ticks.spacing_ns = max(spacing_ns, self._tick_ns // _MOST) if faster else self._tick_ns

    def _fill(self, until_ns: int, now_ns: int) -> None:
        """Open ticks in the gap that ends at a stamp, if another stream brought something there."""
        gathering, spacing_ns = self._gathering, self._rhythm.spacing_ns
        last_ns = max(gathering.stamp_ns, gathering.references.before(until_ns))
        if last_ns == NEVER or not self._rhythm.is_steady:
            return
        assert self._reference is not None
        back_ns = max(0, self._reference.lag_ns)
        # Nearer to the end than this, the reference may come a little early or late.
        for stamp_ns in range(last_ns + spacing_ns, until_ns - spacing_ns // 2, spacing_ns)[-_MOST:]:
            if self._is_brought(stamp_ns, spacing_ns):
                self._open(stamp_ns, now_ns, stamp_ns + back_ns + self._max_wait_ns)

    def _open(self, stamp_ns: int, at_ns: int, due_ns: int) -> None:
        self._gathering.references.open(stamp_ns, at_ns, max(at_ns, due_ns), tick=True)
        self._gathering.made_up_ns = max(stamp_ns, self._gathering.made_up_ns)

    def _is_brought(self, stamp_ns: int, spacing_ns: int) -> bool:
        """Return whether a sample of another stream waits that is nearer to this stamp than to the next."""
        return any(_brought(each, stamp_ns, spacing_ns // 2) for each in self._others)


def _brought(buffer: StreamBuffer, stamp_ns: int, within_ns: int) -> bool:
    """Return whether a sample of this time waits in a buffer."""
    first = bisect_left(buffer.stamps, stamp_ns - within_ns)
    return first < len(buffer.stamps) and buffer.stamps[first] <= stamp_ns + within_ns

"""Ticks that make up for the time in which a silent reference was waited for."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Collection

from smvae_ros.synchronizer.reference_queue import ReferenceQueue
from smvae_ros.synchronizer.stream import FOREVER, NEVER
from smvae_ros.synchronizer.stream_buffer import StreamBuffer
from smvae_ros.synchronizer.ticks import Ticks, ticks_back_ns

# Ticks that make up for one silence at most: half a second of a camera at 60 Hz.
_MOST = 32
# The median of so many spacings: neither a lost picture nor a pause changes it.
_REMEMBERED = 15


class Silence:
    """The silence of the reference, from its last sample until it counts as silent, and the ticks that make up for it.

    Attributes:
        ends_ns: when the reference, which is waited for, counts as silent; FOREVER while it is not waited for.
        made_up_ns: the newest stamp of a tick that made up for a silence; NEVER before the first.
    """

    def __init__(self) -> None:
        self._stamps: deque[int] = deque(maxlen=_REMEMBERED + 1)
        self.restart()

    def restart(self) -> None:
        """Forget everything, because time jumped."""
        self._stamps.clear()
        self.ends_ns, self.made_up_ns = FOREVER, NEVER

    def note(self, stamp_ns: int) -> None:
        """Take the stamp of the reference's next sample, in the order of stamps."""
        self._stamps.append(stamp_ns)

    def open_ticks(
        self,
        at_ns: int,
        last_ns: int,
        references: ReferenceQueue,
        ticks: Ticks,
        timeout_ns: int,
        others: Collection[StreamBuffer],
        max_wait_ns: int,
    ) -> None:
        """Open the ticks that were waited for, until the first tick that is opened from now on.

        They have the reference's own spacing, and lie where another stream brought something, or still may. If they
        would be more than 32, they lie further apart.

        Args:
            at_ns: the time, at which the reference counts as silent.
            last_ns: the stamp of the last reference; NEVER if there was none, and nothing to make up for.
            references: takes the ticks.
            ticks: of the clock.
            timeout_ns: how long the reference was waited for.
            others: the other streams.
            max_wait_ns: how long a reference waits at most.
        """
        self.ends_ns = FOREVER
        if last_ns == NEVER:
            return
        spacing_ns = self._spacing_ns() or ticks.spacing_ns
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
            if due_ns <= at_ns and not any(_brought(each, stamp_ns, spacing_ns // 2) for each in others):
                continue
            references.open(stamp_ns, at_ns, max(at_ns, due_ns), tick=True)
            self.made_up_ns = stamp_ns

    def _spacing_ns(self) -> int:
        """Return the usual spacing of the reference's samples; 0 if it is not known yet."""
        stamps = list(self._stamps)
        spacings = sorted(later - earlier for earlier, later in zip(stamps, stamps[1:]))
        return spacings[(len(spacings) - 1) // 2] if spacings else 0


def _brought(buffer: StreamBuffer, stamp_ns: int, within_ns: int) -> bool:
    """Return whether a sample of this time waits in a buffer."""
    first = bisect_left(buffer.stamps, stamp_ns - within_ns)
    return first < len(buffer.stamps) and buffer.stamps[first] <= stamp_ns + within_ns

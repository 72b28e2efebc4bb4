"""How often messages of the reference usually come."""

from __future__ import annotations

from collections import deque

from smvae_ros.synchronizer.stream import NEVER

# The median of so many spacings: neither a lost picture nor a pause changes it.
_BLOCK = 15
# Messages come steadily if at least a third of their spacings differ from the median by no more than this part of it.
_STEADY = 0.25
# So many medians are remembered, about half a minute of a camera: one that then still is slower has another rhythm.
_REMEMBERED = 64


class Rhythm:
    """How often messages of the reference usually come.

    Messages that cannot be used count as well: a camera of which half of the messages are damaged is no slower camera.

    Args:
        period_ns: the declared least spacing of two samples; 0 if unknown.

    Attributes:
        spacing_ns: the usual time from one message to the next; 0 if it is not known yet.
        is_steady: whether messages come, or are stamped, at about equal times, as far as the last block of them tells.
            If not, as from a sensor that sends on events, a longer pause is no gap.
    """

    def __init__(self, period_ns: int) -> None:
        self._period_ns = period_ns
        self._spacings: list[int] = []
        self._waits: list[int] = []
        self._medians: deque[int] = deque(maxlen=_REMEMBERED)
        self.restart()

    def restart(self) -> None:
        """Forget everything, because time jumped."""
        self._spacings.clear()
        self._waits.clear()
        self._medians.clear()
        self._arrived_ns = self._stamp_ns = NEVER
        self.spacing_ns = 0
        self.is_steady = False

    def note(self, now_ns: int, stamp_ns: int | None) -> None:
        """Take a message that arrives at `now_ns`; None as the stamp of one that cannot be used."""
        arrived_ns, before_ns = self._arrived_ns, self._stamp_ns
        # A driver that sends each picture twice, one right after the other, is no faster camera.
        if stamp_ns is None and 2 * (now_ns - arrived_ns) < self._period_ns:
            return
        self._arrived_ns, self._stamp_ns = now_ns, NEVER if stamp_ns is None else stamp_ns
        if arrived_ns == NEVER:
            return
        spacing_ns = now_ns - arrived_ns
        self._waits.append(spacing_ns)
        if stamp_ns is not None and before_ns != NEVER and stamp_ns - before_ns > spacing_ns:
            spacing_ns = stamp_ns - before_ns  # messages may arrive in bursts
        self._spacings.append(spacing_ns)
        if len(self._spacings) < _BLOCK and self._medians:
            return
        median_ns = _median(self._spacings)
        # A driver that stalls may send what it kept under stamps that nearly repeat.
        self.spacing_ns = max(1, min([median_ns, *self._medians]), self._period_ns // 4)
        if len(self._spacings) == _BLOCK:
            self._medians.append(median_ns)
            self.is_steady = _are_alike(self._spacings) or _are_alike(self._waits)
            self._spacings.clear()
            self._waits.clear()


def _median(spacings: list[int]) -> int:
    return sorted(spacings)[(len(spacings) - 1) // 2]


def _are_alike(spacings: list[int]) -> bool:
    median_ns = _median(spacings)
    return 3 * sum(abs(spacing - median_ns) <= _STEADY * median_ns for spacing in spacings) >= len(spacings)

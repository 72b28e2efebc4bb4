"""How often messages of the reference usually come."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from statistics import median_low

from smvae_ros.synchronizer.stream import NEVER

# The rhythm is judged after each round of so many messages, and a few times in the first of them.
_ROUND = 16
_FIRST = (2, 4, 8, _ROUND)
# It is judged by so many rounds, three seconds of a camera: stamps must have come that arrive two seconds late.
_ROUNDS = 6
# A rhythm has at least a third of the spacings, and ten: fewer are alike by chance.
_SHARE = 1 / 3
_LEAST = 10
# Spacings below this part of the mean, pauses apart, are those of a burst.
_BURST = 0.45
# So many rhythms are remembered, about half a minute of a camera: one that then still is slower has another rhythm.
_REMEMBERED = 64


class Rhythm:
    """How often messages of the reference usually come.

    The rhythm is the most common spacing of the last messages, either of their arrivals or of their stamps in order.
    Messages that come late have stamps in the rhythm; those with wrong stamps or unusable content arrive in it.

    Args:
        period_ns: the declared least spacing of two samples; 0 if unknown.

    Attributes:
        spacing_ns: the usual time from one message to the next; 0 if it is not known yet.
        is_steady: whether enough of the last messages keep that time. If not, as from a sensor that sends on events, a
            longer pause is no gap.
    """

    def __init__(self, period_ns: int) -> None:
        self._period_ns = period_ns
        self._arrivals: deque[int] = deque(maxlen=_ROUNDS * _ROUND + 1)
        self._stamps: deque[int] = deque(maxlen=_ROUNDS * _ROUND + 1)
        self._known: deque[int] = deque(maxlen=_REMEMBERED)
        self.restart()

    def restart(self) -> None:
        """Forget everything, because time jumped."""
        self._arrivals.clear()
        self._stamps.clear()
        self._known.clear()
        self._arrived_ns = self._stamp_ns = NEVER
        # The messages of this round, and those of them whose stamp lies one spacing after the last.
        self._round = self._even = 0
        self.spacing_ns = 0
        self.is_steady = False

    def note(self, now_ns: int, stamp_ns: int | None) -> None:
        """Take a message that arrives at `now_ns`, usable or not; None as the stamp if it is not known."""
        if stamp_ns is None or stamp_ns == self._stamp_ns:
            # A driver that sends each picture twice, one right after the other, is no faster camera.
            if 2 * (now_ns - self._arrived_ns) < self._period_ns:
                return
        else:
            if abs(stamp_ns - self._stamp_ns - self.spacing_ns) <= self.spacing_ns // 8:
                self._even += 1
            self._stamp_ns = stamp_ns
            self._stamps.append(stamp_ns)
        self._arrived_ns = now_ns
        self._arrivals.append(now_ns)
        self._round += 1
        if self._round == _ROUND or len(self._arrivals) in _FIRST:
            if self._even == _ROUND and self.is_steady:  # the usual case
                self._known.append(self.spacing_ns)
            else:
                self._judge()
            self._round = self._even = 0

    def _judge(self) -> None:
        """Learn the rhythm of the last messages, and whether they keep the one that is known."""
        arrivals = list(self._arrivals)
        waits = len(arrivals) - 1
        enough = max(_LEAST, _SHARE * waits)
        rounds = [later - earlier for earlier, later in pairwise(arrivals[::_ROUND])]
        mean_ns = (arrivals[-1] - arrivals[0]) // waits
        if rounds:
            mean_ns = min(mean_ns, median_low(rounds) // _ROUND)
        both = [_spacings(self._stamps), _spacings(arrivals)]
        _, alike, spacing_ns = max([_most_common(spacings, int(_BURST * mean_ns) + 1) for spacings in both])
        # Where more messages come than there is room for, that is the spacing of a part of them.
        if len(rounds) == _ROUNDS and max(rounds) // _ROUND < 0.8 * spacing_ns:
            spacing_ns = max(rounds) // _ROUND
        if alike >= enough and waits >= _ROUND - 1:
            if not self._keeps(both, enough):
                self._known.clear()
            self._known.append(spacing_ns)
        # A driver that stalls may send what it kept under stamps that nearly repeat.
        self.spacing_ns = max(1, self._period_ns // 4, min(self._known, default=spacing_ns))
        self.is_steady = bool(self._known) and self._keeps(both, enough)

    def _keeps(self, both: list[list[int]], enough: float) -> bool:
        """Return whether enough of the spacings, of stamps or of arrivals, fit the rhythm that is known."""
        return max([_fitting(spacings, self.spacing_ns) for spacings in both]) >= enough


def _spacings(times: Iterable[int]) -> list[int]:
    """Return the spacings of times, the least first; equal times count once."""
    return sorted([later - earlier for earlier, later in pairwise(sorted(times)) if later > earlier])


def _most_common(spacings: list[int], least_ns: int) -> tuple[int, int, int]:
    """Return the most common of the spacings of at least `least_ns`, with what speaks for it.

    Returns:
        The number of spacings that are about as long and of those that fit, together; the first of these numbers; the
        median of the spacings that are about as long, 0 if there is none.
    """
    number, spacing_ns, end = 0, 0, 0
    for start in range(bisect_left(spacings, least_ns), len(spacings)):
        most_ns = 13 * spacings[start] // 10
        while end < len(spacings) and spacings[end] <= most_ns:
            end += 1
        if end - start > number:
            number, spacing_ns = end - start, spacings[(start + end - 1) // 2]
    return number + _fitting(spacings, spacing_ns), number, spacing_ns


def _fitting(spacings: list[int], spacing_ns: int) -> int:
    """Return how many of the spacings are a certain one, or twice as much as where a message was lost, within 15 %."""
    within_ns = 15 * spacing_ns // 100
    return sum([abs(each - spacing_ns) <= within_ns or abs(each - 2 * spacing_ns) <= within_ns for each in spacings])

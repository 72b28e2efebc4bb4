"""Time for the synchroniser: the node's clock, or the stamps of the sensors while `/clock` stands still."""

from __future__ import annotations

from time import monotonic, time_ns
from typing import NamedTuple

from rclpy.clock import Clock

# Shorter than that, a slow simulation may be without a new time on /clock.
_PATIENCE_S = 1.0
# A clock that comes late, or is coarse, is behind the stamps by less than that.
_AHEAD_NS = 500_000_000
# So many times as fast as real time a simulation may run.
_FASTEST = 100.0
# From one stamp to the next at most: time does not go on by itself for longer.
_STEP_S = 0.1
# The rate of the stamps is measured over at least so long.
_MEASURED_S = 0.5


class _Step(NamedTuple):
    """The time by the stamps since they last went on.

    Attributes:
        reached_ns: what the stamps reached.
        least_ns: what was told before; time does not go back.
        at_s: when they reached it.
        rate: nanoseconds a second, as the stamps went on before.
    """

    reached_ns: int
    least_ns: int
    at_s: float
    rate: float

    def now_ns(self, now_s: float) -> int:
        """Return the time, which goes on as it did before until the next stamps are due."""
        return max(self.least_ns, self.reached_ns + round(self.rate * max(0.0, min(_STEP_S, now_s - self.at_s))))


class SensedTime:
    """The time by which messages arrive.

    It is that of the node's clock. A simulation that is paused stops it, and the sensors with it. If sensors go on
    while it stands still, whatever brings `/clock` has failed: then it is the time that the stamps of more than half of
    the sensors have reached, until the clock moves again. Between these it goes on evenly, for 0.1 s at most.

    Used on the executor's thread, apart from `now_ns`.

    Args:
        clock: of the node.
        simulated: whether it is `/clock`.

    Attributes:
        simulated: likewise.
    """

    def __init__(self, clock: Clock, *, simulated: bool) -> None:
        self.simulated = simulated
        self._clock = clock
        self._clock_ns, self._moved_s = -1, monotonic()
        self._step: _Step | None = None
        # The steps from which on the rate is measured: that of now, and the next.
        self._since: list[_Step] = []
        # By modality, the newest stamp while the clock stands still, and when the last message came.
        self._stamps: dict[str, tuple[int, float]] = {}

    @property
    def sensed_ns(self) -> int:
        """The time by the stamps; 0 while the clock tells it."""
        step = self._step
        return 0 if step is None else step.now_ns(monotonic())

    def restart(self, *, simulated: bool) -> None:
        """Begin again with another clock."""
        self.simulated = simulated
        self._move(-1)

    def now_ns(self) -> int:
        """Return the time; on any thread."""
        return max(self._told_ns(), self.sensed_ns)

    def arrive(self) -> int:
        """Return the time at which a message arrives."""
        now_ns = self._told_ns()
        if not self.simulated:
            return now_ns
        if now_ns != self._clock_ns:
            self._move(now_ns)
        return max(now_ns, self.sensed_ns)

    def stands_s(self) -> float:
        """Return for how many seconds simulated time stands still by now; 0 where the node's clock is no `/clock`."""
        self.arrive()
        return monotonic() - self._moved_s if self.simulated else 0.0

    def see(self, name: str, stamp_ns: int, now_ns: int) -> int:
        """Take the stamp of a message that arrived at `now_ns`; return the time by this stamp and those before it.

        Args:
            name: its modality.
        """
        if not self.simulated or stamp_ns <= self._clock_ns:
            return now_ns
        steady_s = monotonic()
        self._stamps[name] = max(stamp_ns, self._stamps.get(name, (0, 0.0))[0]), steady_s
        stands_s = steady_s - self._moved_s
        if stands_s >= _PATIENCE_S:
            stamps = sorted(stamp for stamp, at_s in self._stamps.values() if steady_s - at_s < _PATIENCE_S)
            reached_ns = stamps[(len(stamps) - 1) // 2]
            ahead_ns = reached_ns - self._clock_ns
            # A driver beside a paused simulation may stamp with the computer's time.
            plausible = self._clock_ns == 0 or ahead_ns < _FASTEST * stands_s * 1e9
            if plausible and ahead_ns > _AHEAD_NS:
                self._reach(reached_ns, steady_s)
        return max(now_ns, self.sensed_ns)

    def _told_ns(self) -> int:
        # Without `/clock` both are the computer's time, and rclpy takes ten times as long to tell it.
        return self._clock.now().nanoseconds if self.simulated else time_ns()

    def _reach(self, reached_ns: int, now_s: float) -> None:
        before = self._step
        if before is not None and reached_ns <= before.reached_ns:
            return
        least_ns, rate = (reached_ns, 0.0) if before is None else (before.now_ns(now_s), before.rate)
        since = self._since
        if since and now_s - since[-1].at_s >= _MEASURED_S:
            rate = (reached_ns - since[0].reached_ns) / (now_s - since[0].at_s)
        self._step = _Step(reached_ns, least_ns, now_s, rate)
        if not since or now_s - since[-1].at_s >= _MEASURED_S:
            self._since = [*since[-1:], self._step]

    def _move(self, now_ns: int) -> None:
        self._clock_ns, self._moved_s, self._step = now_ns, monotonic(), None
        self._stamps.clear()
        self._since = []

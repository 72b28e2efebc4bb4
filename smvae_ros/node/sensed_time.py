"""Time for the synchroniser: the node's clock, or the stamps of the sensors while `/clock` stands still."""

from __future__ import annotations

from time import monotonic

from rclpy.clock import Clock

# Shorter than that, a slow simulation may be without a new time on /clock.
_PATIENCE_S = 1.0
# A clock that comes late, or is coarse, is behind the stamps by less than that.
_AHEAD_NS = 500_000_000
# So many times as fast as real time a simulation may run.
_FASTEST = 100.0


class SensedTime:
    """The time by which messages arrive.

    It is that of the node's clock. A simulation that is paused stops it, and the sensors with it. If sensors go on
    while it stands still, whatever brings `/clock` has failed: then it is the time that the stamps of more than half of
    the sensors have reached, until the clock moves again.

    Used on the executor's thread, apart from `now_ns`.

    Args:
        clock: of the node.
        simulated: whether it is `/clock`.

    Attributes:
        simulated: likewise.
        sensed_ns: the time by the stamps; 0 while the clock tells it.
    """

    def __init__(self, clock: Clock, *, simulated: bool) -> None:
        self.simulated = simulated
        self.sensed_ns = 0
        self._clock = clock
        self._clock_ns, self._moved_s = -1, monotonic()
        # By modality, the newest stamp while the clock stands still, and when the last message came.
        self._stamps: dict[str, tuple[int, float]] = {}

    def restart(self, *, simulated: bool) -> None:
        """Begin again with another clock."""
        self.simulated = simulated
        self._move(-1)

    def now_ns(self) -> int:
        """Return the time; on any thread."""
        return max(self._clock.now().nanoseconds, self.sensed_ns)

    def arrive(self) -> int:
        """Return the time at which a message arrives."""
        now_ns = self._clock.now().nanoseconds
        if not self.simulated:
            return now_ns
        if now_ns != self._clock_ns:
            self._move(now_ns)
        return max(now_ns, self.sensed_ns)

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
                self.sensed_ns = max(reached_ns, self.sensed_ns)
        return max(now_ns, self.sensed_ns)

    def _move(self, now_ns: int) -> None:
        self._clock_ns, self._moved_s, self.sensed_ns = now_ns, monotonic(), 0
        self._stamps.clear()

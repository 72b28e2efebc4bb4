"""Simulated time for tests."""

from rclpy.node import Node
from rclpy.time import Time
from rosgraph_msgs.msg import Clock


class SimulatedClock:
    """A publisher of /clock, 10 ms later every 10 ms; setting `start_s` makes it jump.

    Attributes:
        every: publish every so many of these steps.
    """

    def __init__(self, node: Node, start_s: float) -> None:
        self._publisher = node.create_publisher(Clock, "/clock", 1)
        self.start_s = start_s
        self.every = 1
        node.create_timer(0.01, self._tick)

    @property
    def start_s(self) -> float:
        """Where it last started, in seconds."""
        return self._start_s

    @start_s.setter
    def start_s(self, value: float) -> None:
        self._start_s = value
        self.now_ns = round(value * 1e9)

    def _tick(self) -> None:
        self.now_ns += 10_000_000
        if self.now_ns // 10_000_000 % self.every:
            return
        self._publisher.publish(Clock(clock=Time(nanoseconds=self.now_ns).to_msg()))

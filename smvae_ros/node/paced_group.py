"""Paced group: subscriptions of fast sensors are read some times a second, not once for each message.

rclpy builds its wait set anew for every message, which costs many times as much as reading one.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.subscription import Subscription

PERIOD_S = 0.01
"""Messages that follow each other faster than this are read together, so often."""


class PacedGroup(MutuallyExclusiveCallbackGroup):
    """A callback group whose fast subscriptions rest: their messages do not wake the executor.

    Resting subscriptions are read by a timer, and by `read_others` when another one wakes the executor. A subscription
    that had no message since the last time wakes the executor again.
    """

    def __init__(self, node: Node) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # rclpy has no types here
        self._node = node
        self._readers: dict[Subscription, Callable[[], int]] = {}
        self._resting: set[Subscription] = set()
        self._noted_s: dict[Subscription, float] = {}
        # On steady time: simulated time may stand still, or run much faster than the messages come.
        self._timer = node.create_timer(
            PERIOD_S, self._read, clock=Clock(clock_type=ClockType.STEADY_TIME), autostart=False
        )

    def add(self, subscription: Subscription, read: Callable[[], int]) -> None:
        """Take a subscription, and the function that reads all its messages and returns their number."""
        self._readers[subscription] = read

    def remove(self, subscription: Subscription) -> None:
        """Forget a subscription that is about to be destroyed."""
        self._readers.pop(subscription, None)
        self._noted_s.pop(subscription, None)
        self._resting.discard(subscription)

    def note(self, subscription: Subscription) -> None:
        """Note that a message woke the executor; let the subscription rest if the one before came just before it."""
        now_s = monotonic()
        if now_s - self._noted_s.get(subscription, -PERIOD_S) < PERIOD_S:
            if not self._resting:
                self._timer.reset()
            self._resting.add(subscription)
        self._noted_s[subscription] = now_s

    def read_others(self, subscription: Subscription | None) -> None:
        """Read the resting subscriptions but this one."""
        for each in tuple(self._resting):
            if each is not subscription:
                self._readers[each]()

    def can_execute(self, entity: Any) -> bool:
        """Return whether an entity may wake the executor."""
        # As rclpy's own, without its lock and its check that the entity is of the group: it is asked for every
        # subscription at every wait.
        return entity not in self._resting and self._active_entity is None

    def destroy(self) -> None:
        """Destroy the timer."""
        self._node.destroy_timer(self._timer)

    def _read(self) -> None:
        for each in tuple(self._resting):
            if not self._readers[each]():
                self._resting.discard(each)
        if not self._resting:
            self._timer.cancel()

"""The wait set of an executor, kept from one wait to the next.

rclpy builds a wait set anew for each callback, and once more without any to call: that takes most of the processor time
of a node whose callbacks are short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, NamedTuple, cast

from rclpy.context import Context
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from rclpy.waitable import NumberOfEntities


class Ready(NamedTuple):
    """The entities that are ready after one wait.

    Attributes:
        timers: that are due.
        subscriptions: that have a message.
        others: whether anything else is ready: a service, a client, a guard condition, an event.
    """

    timers: list[Timer]
    subscriptions: list[Subscription]
    others: bool


class KeptWaitSet:
    """A wait set of everything that some nodes have. It holds until an entity is created or destroyed.

    Args:
        nodes: of the executor.
        guards: the executor's own guard conditions.
        context: of the executor.
    """

    def __init__(self, nodes: Iterable[Node], guards: Iterable[GuardCondition], context: Context) -> None:
        nodes = list(nodes)
        # Each with its handle, which rclpy looks up anew whenever it is asked for.
        self._subscriptions = [(one, one.handle) for node in nodes for one in node.subscriptions]
        self._timers = [(one, one.handle) for node in nodes for one in node.timers]
        self._services = [one.handle for node in nodes for one in node.services]
        self._clients = [one.handle for node in nodes for one in node.clients]
        self._guards = [(one, one.handle) for one in (*guards, *(one for node in nodes for one in node.guards))]
        self._waitables = [one for node in nodes for one in node.waitables]
        count = NumberOfEntities(
            len(self._subscriptions), len(self._guards), len(self._timers), len(self._clients), len(self._services)
        )
        for waitable in self._waitables:
            count += waitable.get_num_entities()
        handle = cast("Any", context.handle)  # None only before the context is initialised
        with handle:
            self._wait_set = rclpy_implementation.WaitSet(
                count.num_subscriptions,
                count.num_guard_conditions,
                count.num_timers,
                count.num_clients,
                count.num_services,
                count.num_events,
                handle,
            )

    def wait(self, can_execute: Callable[[Any], bool]) -> Ready:
        """Wait until something is ready.

        Args:
            can_execute: says of an entity whether it may be called now. Subscriptions that may not are left out.

        Raises:
            InvalidHandle: an entity was destroyed.
        """
        wait_set = self._wait_set
        subscriptions = [pair for pair in self._subscriptions if can_execute(pair[0])]
        with ExitStack() as stack:
            # Entered, as rclpy's own executor does.
            for waitable in self._waitables:
                stack.enter_context(waitable)
            wait_set.clear_entities()
            for _, handle in subscriptions:
                wait_set.add_subscription(handle)
            for _, handle in self._timers:
                wait_set.add_timer(handle)
            for handle in self._services:
                wait_set.add_service(handle)
            for handle in self._clients:
                wait_set.add_client(handle)
            for _, handle in self._guards:
                wait_set.add_guard_condition(handle)
            for waitable in self._waitables:
                waitable.add_to_wait_set(wait_set)
            wait_set.wait(-1)
            others = any(waitable.is_ready(wait_set) for waitable in self._waitables)
        due = wait_set.get_ready_entities("timer")
        filled = wait_set.get_ready_entities("subscription")
        triggered = wait_set.get_ready_entities("guard_condition")
        for guard, handle in self._guards:
            if triggered and handle.pointer in triggered:
                # A wait takes the trigger away. rclpy's executor gives it back to those that are marked so.
                guard._executor_triggered = True
        others = others or any((triggered, *map(wait_set.get_ready_entities, ("service", "client"))))
        return Ready(
            [one for one, handle in self._timers if due and handle.pointer in due and handle.is_timer_ready()],
            [one for one, handle in subscriptions if filled and handle.pointer in filled],
            others,
        )

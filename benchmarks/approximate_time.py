"""The approximate-time algorithm that ROS nodes commonly use, as message_filters describes it for Python.

A set is one message of every topic, all within `slop` of each other. Each new message starts a search for such a set
among the kept messages, nearest first, through every combination. Messages of a set that is found are not used again.
This is a new implementation of that description on integer nanoseconds; the original uses Time and Duration objects,
which makes it several times slower.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any


class ApproximateTime:
    """Sets of one message of each topic.

    Args:
        topics: topics of a set.
        queue: number of messages kept of each topic; the oldest is dropped first.
        slop_ns: largest distance of two stamps of a set, nanoseconds.
    """

    def __init__(self, topics: Iterable[str], queue: int, slop_ns: int) -> None:
        self._queues: dict[str, dict[int, Any]] = {topic: {} for topic in topics}
        self._queue, self._slop_ns = queue, slop_ns

    def add(self, topic: str, stamp_ns: int, message: Any) -> dict[str, Any] | None:
        """Take a message and return the set that it completes, or None."""
        queues = self._queues
        queues[topic][stamp_ns] = message
        while len(queues[topic]) > self._queue:
            del queues[topic][min(queues[topic])]
        candidates = []
        for name, queue in queues.items():
            near = [stamp_ns] if name == topic else [s for s in queue if abs(s - stamp_ns) <= self._slop_ns]
            if not near:
                return None
            candidates.append(sorted(near, key=lambda s: abs(s - stamp_ns)))
        for stamps in product(*candidates):
            if max(stamps) - min(stamps) < self._slop_ns and all(
                s in queue for s, queue in zip(stamps, queues.values())
            ):
                return {name: queue.pop(s) for s, (name, queue) in zip(stamps, queues.items())}
        return None

"""The approximate-time algorithm that ROS nodes commonly use, as message_filters describes it for Python.

A set is one message of every topic, all within `slop` of each other. Each new message looks among the others' for
such a set, nearest first, in every combination; what it finds is handed out once and forgotten. Written from its
description, on integer nanoseconds: the original's Time and Duration objects make it several times slower.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any


class ApproximateTime:
    """Sets of one message of each topic.

    Args:
        topics: all must be in a set.
        queue: the most messages kept of each topic; the oldest gives way.
        slop_ns: how far apart the stamps of a set may be.
    """

    def __init__(self, topics: Iterable[str], queue: int, slop_ns: int) -> None:
        self._queues: dict[str, dict[int, Any]] = {topic: {} for topic in topics}
        self._queue, self._slop_ns = queue, slop_ns

    def add(self, topic: str, stamp_ns: int, message: Any) -> dict[str, Any] | None:
        """Take a message; returns the set that it completes."""
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

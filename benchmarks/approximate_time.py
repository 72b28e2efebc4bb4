"""The approximate-time algorithm that ROS nodes commonly use, as message_filters describes it for Python.

A set is one message of every topic, all within `slop` of each other. Each new message starts a search for such a set
among the kept messages, nearest first, through every combination. Messages of a set that is found are not used again.
This is a new implementation of that description on integer nanoseconds; the original uses Time and Duration objects,
which makes it several times slower. `Original` is message_filters' own, where it is to be had.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace
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


class Original:
    """The ApproximateTimeSynchronizer of message_filters.

    Args:
        module: message_filters, as `message_filters` returns it.
        topics: topics of a set.
        queue: number of messages kept of each topic.
        slop_ns: largest distance of two stamps of a set, nanoseconds.
    """

    def __init__(self, module: ModuleType, topics: Sequence[str], queue: int, slop_ns: int) -> None:
        self._filters = {topic: module.SimpleFilter() for topic in topics}
        self.sets = 0
        synchronizer = module.ApproximateTimeSynchronizer(list(self._filters.values()), queue, slop_ns / 1e9)
        synchronizer.registerCallback(self._count)

    def add(self, topic: str, message: object) -> None:
        """Take a message of `stamped`."""
        self._filters[topic].signalMessage(message)

    def _count(self, *_: object) -> None:
        self.sets += 1


def message_filters(file: Path | None) -> ModuleType | None:
    """Return message_filters: from `__init__.py` of its sources, else the installed one; None where there is neither.

    It is not on PyPI. An installed ROS 2 brings it.
    """
    if file is None:
        found = importlib.util.find_spec("message_filters")
        return None if found is None else importlib.import_module("message_filters")
    spec = importlib.util.spec_from_file_location("message_filters", file)
    assert spec is not None and spec.loader is not None, f"expected a Python file, found {file}"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stamped(stamp_ns: int) -> object:
    """Return the least that message_filters takes for a message: a header with a stamp."""
    from builtin_interfaces.msg import Time  # of ROS 2, which those who only simulate do not have

    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return SimpleNamespace(header=SimpleNamespace(stamp=Time(sec=seconds, nanosec=nanoseconds)))

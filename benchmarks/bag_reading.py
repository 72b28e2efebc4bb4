"""Messages out of a bag, deserialised: ours against rosbags alone, in turn."""

import statistics
import time
from pathlib import Path

from rosbags.highlevel import AnyReader

from benchmarks.report import Goal
from smvae_ros.bags.reading import read_bag

_GOAL = 1.2


def ours_s(bag: Path, topics: dict[str, str]) -> tuple[float, int]:
    """Return the processor time to read every message, damaged ones told apart, and their number."""
    began = time.process_time()
    count = sum(1 for _ in read_bag(bag, topics))
    return time.process_time() - began, count


def rosbags_s(bag: Path, topics: dict[str, str]) -> tuple[float, int]:
    """Return the same for the reader of rosbags."""
    began = time.process_time()
    with AnyReader([bag]) as reader:
        wanted = [c for c in reader.connections if c.topic in topics.values()]
        count = sum(1 for c, _, data in reader.messages(wanted) if reader.deserialize(data, c.msgtype) is not None)
    return time.process_time() - began, count


def against_rosbags(bag: Path, rounds: int) -> Goal:
    """Read every topic of a bag in alternating rounds, after a warm-up."""
    with AnyReader([bag]) as reader:
        topics = {connection.topic: connection.topic for connection in reader.connections}
    (_, count), (_, others) = ours_s(bag, topics), rosbags_s(bag, topics)
    assert count == others, f"expected the {others} messages that rosbags reads, found {count}"
    pairs = [(ours_s(bag, topics)[0], rosbags_s(bag, topics)[0]) for _ in range(rounds)]
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    mine, theirs = (1e6 * statistics.median(column) / count for column in zip(*pairs))
    return Goal(
        f"reading {count:,} messages: µs of the processor for each, and against rosbags",
        f"{mine:.0f}, {ratio:.2f}×",
        f"≤ {_GOAL}×",
        ratio <= _GOAL,
        f"{theirs:.0f} (rosbags)",
    )

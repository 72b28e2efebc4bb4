"""The synchroniser's time per message, and whether every reference becomes a set, for every subset of silent topics.

Five topics: two cameras at 30 Hz, a wrench at 1 kHz, two commands at 20 Hz; with every subset of them silent from the
start, and queues of 10 to 100. Compared with the approximate-time algorithm on the same messages.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import combinations, groupby
from pathlib import Path
from typing import NamedTuple

from benchmarks.approximate_time import ApproximateTime, Original, message_filters, stamped
from benchmarks.report import RESULTS, Goal, report
from smvae_core.modality import vision_touch_modalities
from smvae_ros.settings import FusionSettings, default_settings, nanoseconds
from smvae_ros.synchronizer.set_synchronizer import SampleSet

_QUEUES = (10, 30, 100)
_START_NS = 1_700_000_000_000_000_000
# Hz, and how long the transport takes: at least, and up to so much longer (ns).
_TOPICS = {
    "rgb": (30, 3_000_000, 4_000_000),
    "depth": (30, 3_000_000, 4_000_000),
    "force": (1000, 200_000, 600_000),
    "action": (20, 200_000, 600_000),
    "gripper": (20, 200_000, 600_000),
}


class Message(NamedTuple):
    """A message in transit."""

    arrival_ns: int
    topic: str
    stamp_ns: int


class Case(NamedTuple):
    """One subset of topics at one queue: seconds per message and number of sets of each algorithm."""

    missing: tuple[str, ...]
    queue: int
    ours_s: float
    theirs_s: float
    references: int
    sets: int
    their_sets: int
    messages: int


def messages(seconds: float) -> list[Message]:
    """Return the messages of all topics in the order of arrival; within a topic, also in the order of their stamps."""
    jitter = random.Random(0)
    sent = []
    for topic, (rate, least_ns, more_ns) in _TOPICS.items():
        phase_ns = jitter.randrange(1_000_000_000 // rate)
        last_ns = 0
        for index in range(int(seconds * rate)):
            stamp_ns = _START_NS + phase_ns + index * 1_000_000_000 // rate
            last_ns = max(last_ns + 1, stamp_ns + least_ns + jitter.randrange(more_ns))
            sent.append(Message(last_ns, topic, stamp_ns))
    return sorted(sent)


def settings(queue: int) -> FusionSettings:
    """Return the node's settings for these topics with other queues; the wrench's queue holds at least its window."""
    streams = dict(default_settings(vision_touch_modalities()).streams)
    streams["gripper"] = streams["action"].model_copy(update={"topic": "gripper"})
    return FusionSettings(
        streams={
            name: stream.model_copy(update={"depth": max(queue, stream.depth) if stream.window > 1 else queue})
            for name, stream in streams.items()
        }
    )


def ours(sent: list[Message], queue: int) -> tuple[float, int]:
    """Return seconds per message, and the number of sets whose reference is not after the last message."""
    synchronizer = settings(queue).synchronizer()
    sets: list[SampleSet] = []
    began = time.thread_time()
    for arrival_ns, topic, stamp_ns in sent:
        # In the node, a timer polls at the deadline.
        while (due_ns := synchronizer.next_deadline()) is not None and due_ns <= arrival_ns:
            sets += synchronizer.poll(due_ns)
        sets += synchronizer.add(topic, stamp_ns, None, arrival_ns)
    spent = time.thread_time() - began
    end_ns = sent[-1].arrival_ns
    sets += synchronizer.poll(end_ns + nanoseconds(settings(queue).max_wait))
    return spent / len(sent), sum(sample_set.stamp_ns <= end_ns for sample_set in sets)


def theirs(sent: list[Message], queue: int) -> tuple[float, int]:
    """Return the same for the approximate-time algorithm; its slop is the tolerance."""
    synchronizer = ApproximateTime(_TOPICS, queue, 25_000_000)
    count = 0
    began = time.thread_time()
    for _, topic, stamp_ns in sent:
        count += synchronizer.add(topic, stamp_ns, None) is not None
    return (time.thread_time() - began) / len(sent), count


def references(sent: list[Message], queue: int) -> int:
    """Return the number of images that open sets; without images, of ticks after the reference's timeout."""
    images = sum(message.topic == "rgb" for message in sent)
    if images:
        return images
    node = settings(queue)
    tick_ns = nanoseconds(node.tick)
    first_ns = sent[0].arrival_ns + nanoseconds(node.streams["rgb"].timeout)
    return sent[-1].arrival_ns // tick_ns - (first_ns - 1) // tick_ns


def measure(seconds: float, rounds: int) -> Iterator[Case]:
    """Measure every case, after a warm-up."""
    everything = messages(seconds)
    ours(everything, _QUEUES[0])
    theirs(everything, _QUEUES[0])
    for number in range(len(_TOPICS)):
        for missing in combinations(_TOPICS, number):
            sent = [message for message in everything if message.topic not in missing]
            for queue in _QUEUES:
                # In turn, so that other load of the machine affects both.
                pairs = [(ours(sent, queue), theirs(sent, queue)) for _ in range(rounds)]
                yield Case(
                    missing,
                    queue,
                    statistics.median(spent for (spent, _), _ in pairs),
                    statistics.median(spent for _, (spent, _) in pairs),
                    references(sent, queue),
                    pairs[0][0][1],
                    pairs[0][1][1],
                    len(sent),
                )


def _against_the_original(file: Path | None, seconds: float, rounds: int) -> Goal:
    """Compare with message_filters' own synchroniser, nothing missing, the shortest queue."""
    queue = _QUEUES[0]
    what = f"nothing missing, queue {queue}: µs a message, against message_filters' Python synchroniser"
    if (module := message_filters(file)) is None:
        return Goal(what, "not measured: message_filters is not installed here, nor on PyPI", "(for comparison)", True)
    sent = messages(seconds)
    made = [(message.topic, stamped(message.stamp_ns)) for message in sent]
    pairs, sets = [], 0
    for _ in range(rounds):
        ours_s, _ = ours(sent, queue)
        original = Original(module, tuple(_TOPICS), queue, 25_000_000)
        began = time.thread_time()
        for topic, message in made:
            original.add(topic, message)
        pairs.append((ours_s, (time.thread_time() - began) / len(made)))
        sets = original.sets
    mine, theirs_s = (1e6 * statistics.median(column) for column in zip(*pairs))
    of = f"{references(sent, queue)} references"
    return Goal(what, f"{mine:.1f}", "≤ 5", mine <= 5.0, f"{theirs_s:.1f} (message_filters; {sets} sets of {of})")


def _goals(cases: list[Case]) -> Iterator[Goal]:
    def microseconds(of: Callable[[Case], float], group: list[Case]) -> str:
        values = [1e6 * of(case) for case in group]
        return f"{statistics.median(values):.1f}, at worst {max(values):.1f}"

    for number, grouped in groupby(cases, key=lambda case: len(case.missing)):
        group = list(grouped)
        measured = microseconds(lambda case: case.ours_s, group)
        theirs = microseconds(lambda case: case.theirs_s, group)
        yield Goal(
            f"{number} of 5 topics missing: µs a message (approximate time: {theirs})",
            measured,
            "≤ 5",
            max(case.ours_s for case in group) <= 5e-6,
        )
        sets, due = sum(case.sets for case in group), sum(case.references for case in group)
        others = sum(case.their_sets for case in group)
        yield Goal(
            f"{number} of 5 topics missing: sets of {due:,} references (approximate time: {others:,})",
            f"{sets:,}",
            "every one, in every case",
            all(case.sets == case.references for case in group),
        )


def _per_set(case: Case) -> float:
    """Return microseconds per set of a case."""
    return 1e6 * case.ours_s * case.messages / case.sets


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of messages in each case")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--message-filters",
        type=Path,
        metavar="FILE",
        help="src/message_filters/__init__.py of github.com/ros2/message_filters; default: the installed one, if any",
    )
    arguments = parser.parse_args()
    cases = list(measure(arguments.seconds, arguments.rounds))
    slow = max(cases, key=lambda case: case.ours_s)
    report(
        "Synchroniser",
        "make bench BENCHMARKS=synchronizer",
        f"Two cameras at 30 Hz, a wrench at 1 kHz, two commands at 20 Hz, {arguments.seconds:g} s of them; every "
        f"subset silent from the start, queues of {', '.join(map(str, _QUEUES))}: {len(cases)} cases, each with the "
        "sets of the first half second, when a silent topic still counts as alive. While `rgb` is missing, references "
        f"are ticks. The cost of a case is the median of {arguments.rounds} alternating rounds; shown are the median "
        f"case and the worst. Ours at worst: {', '.join(slow.missing) or 'nothing'} missing, queue {slow.queue}. The "
        "approximate-time algorithm is a plain re-implementation on integers, several times faster than the original "
        "of the last row, and takes one sample of the wrench, not a window of 32. Time is the thread's own on the "
        "processor; sets and ticks are charged to the messages: in the worst case "
        f"{_per_set(slow):.0f} µs a set, everything counted in.",
        [*_goals(cases), _against_the_original(arguments.message_filters, arguments.seconds, arguments.rounds)],
        arguments.results,
    )


if __name__ == "__main__":
    main()

"""Which of the sets that wait for the worker are run, and which are overtaken."""

from __future__ import annotations

from smvae_ros.node.set_queue import SetQueue
from smvae_ros.synchronizer.sample_set import SampleSet


def a_set(number: int, *, made_up: bool = False) -> SampleSet:
    return SampleSet(number, 0, {}, "tick" if made_up else "complete", 0, 0, made_up)


def taken(queue: SetQueue, number: int) -> list[int]:
    return [queue.take().sample_set.stamp_ns for _ in range(number)]


def test_sets_that_make_up_for_a_silence_are_all_run_in_order_and_so_are_those_that_come_meanwhile() -> None:
    queue = SetQueue()
    assert [queue.put(a_set(number, made_up=True), 0) for number in range(20)] == [0] * 20
    run, number = [], 20
    # Three sets are run while two come.
    while len(queue):
        run += taken(queue, min(3, len(queue)))
        if number < 40:
            assert queue.put(a_set(number), 0) + queue.put(a_set(number + 1), 0) == 0
            number += 2
        queue.pause()
    assert run == list(range(40))


def test_a_worker_that_cannot_keep_up_loses_the_oldest_and_each_is_counted() -> None:
    queue = SetQueue()
    overtaken = sum(queue.put(a_set(number, made_up=True), 0) for number in range(10))
    run: list[int] = []
    for number in range(10, 110, 2):
        # Two sets come while one is run.
        run += taken(queue, 1)
        overtaken += queue.put(a_set(number), 0) + queue.put(a_set(number + 1), 0)
    assert run == sorted(run)
    assert len(run) + overtaken + len(queue) == 110
    assert run[-1] == 107, "in the end, the newest"


def test_after_a_pause_the_places_are_few_again() -> None:
    queue = SetQueue()
    for number in range(10):
        queue.put(a_set(number, made_up=True), 0)
    taken(queue, 10)
    queue.pause()
    assert [queue.put(a_set(number), 0) for number in range(6)] == [0, 0, 0, 0, 1, 1]

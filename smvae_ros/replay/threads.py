"""A replay on several cores: this process runs the networks on several threads.

A batch is computed on one thread, so the results do not depend on the number of threads.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from smvae_ros.replay.inference import BATCH, Batch, BatchInference, Carried, Judged
from smvae_ros.replay.prepared import Prepared
from smvae_ros.synchronizer.sample_set import SampleSet

_LAST_BATCH = 8


@dataclass
class _UnderWay:
    sets: list[Prepared]
    batch: Batch
    future: Future[list[Judged]]


def judged_in_order(
    prepared: Iterator[Prepared], inference: BatchInference, threads: int
) -> Iterator[tuple[Prepared, Judged]]:
    """Yield each set with what the model infers from it, in order.

    This thread takes the sets, and computes as well once there are enough batches for the other threads. So this
    process never has more threads that compute than `threads`.
    """
    if threads == 1:
        for sets, batch in _batches(prepared):
            yield from zip(sets, inference.run(batch))
        return
    with ThreadPoolExecutor(threads - 1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        under_way: deque[_UnderWay] = deque()
        for sets, batch in _batches(prepared):
            under_way.append(_UnderWay(sets, batch, pool.submit(inference.run, batch)))
            if sum(not each.future.done() for each in under_way) > threads:
                _compute_next(under_way, inference)
            while under_way and (under_way[0].future.done() or len(under_way) > 4 * threads):
                first = under_way.popleft()
                yield from zip(first.sets, first.future.result())
        while _compute_next(under_way, inference):
            pass
        for each in under_way:
            yield from zip(each.sets, each.future.result())


@contextmanager
def undisturbed() -> Iterator[None]:
    """Set up the process so that many small steps on several threads hinder each other least."""
    # The number of threads changes the last bits of a sum; batches run in parallel instead.
    threads, collect = torch.get_num_threads(), gc.get_threshold()
    torch.set_num_threads(1)
    # After a block of 31 MiB was freed, the C library keeps blocks up to that size instead of giving them back to the
    # system, which would have to clear them again for the next batch.
    torch.empty(31 << 20, dtype=torch.uint8)
    # Messages hold no cycles, but are so many that the search for cycles took a quarter of the time of reading.
    gc.set_threshold(100_000, *collect[1:])
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        gc.set_threshold(*collect)


def _batches(prepared: Iterator[Prepared]) -> Iterator[tuple[list[Prepared], Batch]]:
    """Yield all sets in batches that hand memory on, each set with the time since the one before."""
    last: SampleSet | None = None
    before: Future[Carried] | None = None
    for sets in _grouped(prepared):
        elapsed = []
        for one in sets:
            elapsed.append(one.sample_set.seconds_since(last))
            last = one.sample_set
        batch = Batch(
            [one.arrays for one in sets],
            [one.truth for one in sets],
            elapsed,
            before,
            in_full=[one.in_full for one in sets],
        )
        before = batch.after
        yield sets, batch


def _grouped(prepared: Iterator[Prepared]) -> Iterator[list[Prepared]]:
    """Yield all sets in groups, which do not depend on the number of threads.

    The last groups are small, so that all threads end at about the same time.
    """
    ahead: deque[Prepared] = deque()
    for one in prepared:
        ahead.append(one)
        if len(ahead) == 2 * BATCH:
            yield [ahead.popleft() for _ in range(BATCH)]
    size = BATCH if len(ahead) < BATCH else _LAST_BATCH
    while ahead:
        yield [ahead.popleft() for _ in range(min(size, len(ahead)))]


def _compute_next(under_way: deque[_UnderWay], inference: BatchInference) -> bool:
    """Compute the first batch that no thread has begun, on this thread; return whether there was one.

    The first, since later ones wait for its memory.
    """
    for each in under_way:
        if each.future.cancel():
            each.future = Future()
            each.future.set_result(inference.run(each.batch))
            return True
    return False

"""A replay on several cores: one thread reads the bag while others run the networks.

A batch is computed on one thread, so the results do not depend on the number of threads.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

from smvae_ros.replay.inference import BATCH, BatchInference, Judged
from smvae_ros.replay.judge import Prepared

_LAST_BATCH = 8

_UnderWay = tuple[list[Prepared], Future[list[Judged]]]


def judged_in_order(
    prepared: Iterator[Prepared], inference: BatchInference, threads: int
) -> Iterator[tuple[Prepared, Judged]]:
    """Yield each set with what the model infers from it, in order.

    This thread reads, and computes as well once there are enough batches for the other threads. So there are never
    more threads than cores: a thread that waits for a core would hold the interpreter and stop all others.
    """
    if threads == 1:
        for batch in _batches(prepared):
            yield from zip(batch, inference.run(*_work(batch)))
        return
    with ThreadPoolExecutor(threads - 1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        under_way: deque[_UnderWay] = deque()
        for batch in _batches(prepared):
            under_way.append((batch, pool.submit(inference.run, *_work(batch))))
            if sum(not future.done() for _, future in under_way) > threads:
                _computed_here(under_way, len(under_way) - 1, inference)
            while under_way and (under_way[0][1].done() or len(under_way) > 4 * threads):
                done, future = under_way.popleft()
                yield from zip(done, future.result())
        for place in range(len(under_way)):
            _computed_here(under_way, place, inference)
        for done, future in under_way:
            yield from zip(done, future.result())


@contextmanager
def undisturbed() -> Iterator[None]:
    """Set up the process so that many small steps on several threads hinder each other least."""
    # The number of threads changes the last bits of a sum; batches run in parallel instead.
    threads, interval, collect = torch.get_num_threads(), sys.getswitchinterval(), gc.get_threshold()
    torch.set_num_threads(1)
    # After a block of 31 MiB was freed, the C library keeps blocks up to that size instead of giving them back to the
    # system, which would have to clear them again for the next batch.
    torch.empty(31 << 20, dtype=torch.uint8)
    # A thread that returns from an operation of PyTorch waits this long for the thread that reads.
    sys.setswitchinterval(1e-4)
    # Messages hold no cycles, but are so many that the search for cycles took a quarter of the time of reading.
    gc.set_threshold(100_000, *collect[1:])
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        sys.setswitchinterval(interval)
        gc.set_threshold(*collect)


def _batches(prepared: Iterator[Prepared]) -> Iterator[list[Prepared]]:
    """Yield all sets in batches, which do not depend on the number of threads.

    The last batches are small, so that all threads end at about the same time.
    """
    ahead: deque[Prepared] = deque()
    for one in prepared:
        ahead.append(one)
        if len(ahead) == 2 * BATCH:
            yield [ahead.popleft() for _ in range(BATCH)]
    size = BATCH if len(ahead) < BATCH else _LAST_BATCH
    while ahead:
        yield [ahead.popleft() for _ in range(min(size, len(ahead)))]


def _computed_here(under_way: deque[_UnderWay], place: int, inference: BatchInference) -> None:
    """Compute a batch on this thread, unless another thread has begun it."""
    batch, future = under_way[place]
    if future.cancel():
        future = Future()
        future.set_result(inference.run(*_work(batch)))
        under_way[place] = (batch, future)


def _work(batch: Sequence[Prepared]) -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    return [one.arrays for one in batch], [one.truth for one in batch]

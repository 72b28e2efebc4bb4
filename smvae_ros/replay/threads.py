"""A replay on several cores: reading, which is Python, beside networks, which are not.

A batch is computed on one thread, so that the results do not depend on how many there are.
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
    """Each set with what the model says of it, in order.

    This thread reads; once there is enough in stock for the others, it computes as well. So there is never a thread
    more than there are cores to run it: one that waits for a core would hold the interpreter, and all others up.
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
    """Settings of the process under which many small steps on several threads get in each other's way least."""
    # The number of threads changes the last bits of a sum; batches run beside each other instead.
    threads, interval, collect = torch.get_num_threads(), sys.getswitchinterval(), gc.get_threshold()
    torch.set_num_threads(1)
    # What the C library gives back to the system with every batch, the next one must have cleared again; once it saw a
    # block of that size (31 MiB) freed, it keeps those up to it.
    torch.empty(31 << 20, dtype=torch.uint8)
    # A thread that comes back from an operation of PyTorch waits so long for the one that reads.
    sys.setswitchinterval(1e-4)
    # Messages hold no cycles, but there are so many that the search for such took a quarter of the time of reading.
    gc.set_threshold(100_000, *collect[1:])
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        sys.setswitchinterval(interval)
        gc.set_threshold(*collect)


def _batches(prepared: Iterator[Prepared]) -> Iterator[list[Prepared]]:
    """All sets in batches, the same ones on any number of threads; small ones at the end of many sets, so that all
    threads end together.
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
    """Compute a batch on this thread, unless another has begun."""
    batch, future = under_way[place]
    if future.cancel():
        future = Future()
        future.set_result(inference.run(*_work(batch)))
        under_way[place] = (batch, future)


def _work(batch: Sequence[Prepared]) -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    return [one.arrays for one in batch], [one.truth for one in batch]

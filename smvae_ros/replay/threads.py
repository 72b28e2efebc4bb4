"""A replay on several cores: one thread reads the bag and remembers while others run the networks.

Reading, memory and trust are many small steps of Python, of which two threads would only take turns. So they stay on
one thread, and the large operations on the others. A batch is computed in one order, so the results do not depend on
the number of threads.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import torch

from smvae_ros.replay.inference import BATCH, Batch, BatchInference, Embedded, Judged
from smvae_ros.replay.judge import Prepared
from smvae_ros.replay.recollection import Carried
from smvae_ros.synchronizer.sample_set import SampleSet

_LAST_BATCH = 8
_SET_TIMER_SLACK = 29  # PR_SET_TIMERSLACK of prctl(2)


T = TypeVar("T")


def judged_in_order(
    prepared: Iterator[Prepared], inference: BatchInference, threads: int
) -> Iterator[tuple[Prepared, Judged]]:
    """Yield each set with what the model infers from it, in order.

    This thread reads and remembers, and runs networks as well once there is enough for the other threads. So there are
    never more threads than cores: a thread that waits for a core would hold the interpreter and stop all others.
    """
    carried = Carried()
    if threads == 1:
        for sets, batch in _batches(prepared):
            judged, carried = inference.run(batch, carried)
            yield from zip(sets, judged)
        return
    with ThreadPoolExecutor(threads - 1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        under_way: deque[_UnderWay] = deque()
        for sets, batch in _batches(prepared):
            under_way.append(_UnderWay(sets, batch, _Work(pool, partial(inference.embedded, batch))))
            carried = _remember(under_way, carried, inference, pool)
            if sum(not work.done for work in _work(under_way)) > threads:
                _help(under_way)
            while under_way and (under_way[0].is_judged or len(under_way) > 4 * threads):
                carried = _remember(under_way, carried, inference, pool, first=True)
                yield from under_way.popleft().results()
        while under_way:
            carried = _remember(under_way, carried, inference, pool)
            if not _help(under_way):  # all that there is has been begun
                carried = _remember(under_way, carried, inference, pool, first=True)
                yield from under_way.popleft().results()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Set up the process so that many small steps on several threads hinder each other least."""
    # The number of threads changes the last bits of a sum; batches run in parallel instead.
    threads, interval, collect = torch.get_num_threads(), sys.getswitchinterval(), gc.get_threshold()
    torch.set_num_threads(1)
    # After a block of 31 MiB was freed, the C library keeps blocks up to that size instead of giving them back to the
    # system, which would have to clear them again for the next batch.
    torch.empty(31 << 20, dtype=torch.uint8)
    # A thread that returns from an operation of PyTorch waits this long for the thread that reads, and Linux lets it
    # wait longer by its timer slack, 50 µs. With both, many small operations took twice as long beside that thread.
    sys.setswitchinterval(1e-5)
    _set_timer_slack(1)
    # Messages hold no cycles, but are so many that the search for cycles took a quarter of the time of reading.
    gc.set_threshold(100_000, *collect[1:])
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        sys.setswitchinterval(interval)
        _set_timer_slack(0)
        gc.set_threshold(*collect)


def _set_timer_slack(nanoseconds: int) -> None:
    """Set by how much Linux may delay the timers of this thread and of those that it starts; 0 restores its default."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_TIMER_SLACK, ctypes.c_ulong(nanoseconds), 0, 0, 0)


def _batches(prepared: Iterator[Prepared]) -> Iterator[tuple[list[Prepared], Batch]]:
    """Yield all sets in batches, each set with the time since the one before."""
    last: SampleSet | None = None
    for sets in _grouped(prepared):
        elapsed = []
        for one in sets:
            elapsed.append(one.sample_set.seconds_since(last))
            last = one.sample_set
        yield (
            sets,
            Batch([one.arrays for one in sets], [one.truth for one in sets], elapsed, [one.in_full for one in sets]),
        )


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


class _Work(Generic[T]):
    """Work that a thread of the pool does, unless this one is faster."""

    def __init__(self, pool: ThreadPoolExecutor, call: Callable[[], T]) -> None:
        self._call = call
        self._future = pool.submit(call)

    @property
    def done(self) -> bool:
        return self._future.done()

    def result(self) -> T:
        return self._future.result()

    def do_here(self) -> bool:
        """Do it on this thread if no other has begun; return whether that was so."""
        if not self._future.cancel():
            return False
        self._future = Future()
        self._future.set_result(self._call())
        return True


@dataclass
class _UnderWay:
    """A batch on its way. `judged` is None until memory has gone through it."""

    sets: list[Prepared]
    batch: Batch
    embedded: _Work[Embedded]
    judged: _Work[list[Judged]] | None = None

    @property
    def is_judged(self) -> bool:
        return self.judged is not None and self.judged.done

    def results(self) -> Iterator[tuple[Prepared, Judged]]:
        assert self.judged is not None, "memory has gone through it"
        return zip(self.sets, self.judged.result())


def _work(under_way: Iterable[_UnderWay]) -> Iterator[_Work[Any]]:
    """Yield what there is to do, in order."""
    return (each.judged or each.embedded for each in under_way)


def _remember(
    under_way: Iterable[_UnderWay],
    carried: Carried,
    inference: BatchInference,
    pool: ThreadPoolExecutor,
    *,
    first: bool = False,
) -> Carried:
    """Let memory go through all batches that are embedded, in order; return what the next one is handed.

    Args:
        first: whether to wait for the first batch that it has not gone through.
    """
    for each in under_way:
        if each.judged is None:
            if not (first or each.embedded.done):
                break
            first = False
            embedded = each.embedded.result()
            recollection = inference.recollected(each.batch, embedded, carried)
            carried = recollection.carried
            each.judged = _Work(pool, partial(inference.judged, each.batch, embedded, recollection))
    return carried


def _help(under_way: Iterable[_UnderWay]) -> bool:
    """Do the first work that no thread has begun, on this thread; return whether there was any."""
    return any(work.do_here() for work in _work(under_way))

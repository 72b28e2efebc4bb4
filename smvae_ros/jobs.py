"""Work on several bags at once, in processes of this machine or on a Dask cluster; a bad bag does not stop the others.

>>> run_jobs(partial(replay_bag, out, job), bags, on_done=print, workers=4)
>>> run_jobs(partial(replay_bag, out, job), bags, on_done=print, cluster=Cluster("tcp://head:8786", out))
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from smvae_core.errors import SMVAEError

if TYPE_CHECKING:
    from smvae_ros.cluster import Cluster

Result = TypeVar("Result")
Task = Callable[[str, Path, int], Result]
"""The work on one bag: name, path, and number of threads that compute. It is sent to other processes."""


@dataclass(frozen=True)
class Done(Generic[Result]):
    """The end of the work on one bag: the result of the task, or why there is none."""

    name: str
    result: Result | None = None
    error: str | None = None


@dataclass(frozen=True)
class Pool(Generic[Result]):
    """Processes that run `job` on a bag; `failed` tells what its error means, None to try the bag again."""

    executor: Executor
    job: Callable[[str, Path], Done[Result]]
    failed: Callable[[Exception], str | None]


def run_jobs(
    task: Task[Result],
    bags: Mapping[str, Path],
    on_done: Callable[[Done[Result]], None],
    workers: int = 1,
    cluster: Cluster | None = None,
) -> list[Done[Result]]:
    """Run a task on each bag; return what became of them, in the order of `bags`.

    If a process is killed, as for want of memory, one process goes on, and a bag at which it is killed twice is bad.

    Args:
        on_done: called after each bag, in the order in which they end.
        workers: number of processes, which share the cores of this machine.
        cluster: a cluster to work on instead.

    Raises:
        ClusterError: the cluster cannot be reached, or it is lost.
    """
    done: dict[str, Done[Result]] = {}
    deaths: Counter[str] = Counter()
    while left := {name: bag for name, bag in bags.items() if name not in done}:
        with cluster.pool(task) if cluster else _processes(task, workers) as pool:
            for one in _ended(pool, left):
                done[one.name] = one
                on_done(one)
        killed = next((name for name in left if name not in done), None)
        # A single process takes the bags in order, so it was killed at the first of those that are left.
        if killed is not None and workers == 1:
            deaths[killed] += 1
            if deaths[killed] == _TRIES:
                done[killed] = Done(
                    killed, error=f"{bags[killed]}: its process was killed twice, as for want of memory"
                )
                on_done(done[killed])
        workers = 1
    return [done[name] for name in bags]


def run_job(task: Task[Result], name: str, bag: Path, threads: int) -> Done[Result]:
    """Run a task on one bag; whatever it raises becomes a sentence."""
    try:
        return Done(name, task(name, bag, threads))
    except SMVAEError as error:
        return Done(name, error=str(error))
    except Exception as error:  # a defect that one bag meets does not stop the others
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(str(error).split())[:300]
        where = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
        return Done(name, error=f"{bag}: a defect of smvae, {where}: {reason}")


_TRIES = 2
_INTERRUPT = {signal.SIGINT}

_stopped: Any
"""In a process of the pool: its value is 1 once no further bag is to be started."""


def _ended(pool: Pool[Result], bags: Mapping[str, Path]) -> Iterator[Done[Result]]:
    """Run the job on bags; yield what becomes of each, without those that are to be tried again."""
    # Ctrl-C reaches all processes: those that are still being started inherit the blocked signal.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)
    try:
        futures = {pool.executor.submit(pool.job, name, bag): name for name, bag in bags.items()}
    except BrokenProcessPool:
        return
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for future in as_completed(futures):
        name = futures[future]
        try:
            yield future.result()
        except Exception as error:
            if (sentence := pool.failed(error)) is not None:
                yield Done(name, error=f"{bags[name]}: {sentence}")


@contextmanager
def _processes(task: Task[Result], workers: int) -> Iterator[Pool[Result]]:
    """Start processes of this machine."""
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    # A forked process may hang, because torch has threads.
    context = multiprocessing.get_context("spawn")
    # Not an Event: a process that is killed while it asks would keep the lock of it.
    stopped = context.RawValue("b", 0)
    executor = ProcessPoolExecutor(workers, context, _start, (stopped,))
    try:
        yield Pool(executor, partial(_interruptible, task, threads), _killed)
    finally:
        # After Ctrl-C the pool does not cancel what it has handed on already.
        stopped.value = 1
        executor.shutdown(cancel_futures=True)


def _killed(error: Exception) -> None:
    if not isinstance(error, BrokenProcessPool):
        raise error


def _start(stopped: Any) -> None:
    global _stopped
    _stopped = stopped


def _interruptible(task: Task[Result], threads: int, name: str, bag: Path) -> Done[Result]:
    """Run a job in a process of the pool, which Ctrl-C interrupts only here: elsewhere it would print a traceback."""
    if _stopped.value:
        raise KeyboardInterrupt
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)
    try:
        return run_job(task, name, bag, threads)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)

"""Work on several bags at once, in processes of this machine or on a Dask cluster; a bad bag does not stop the others.

>>> task = Task(partial(replay_bag, out, job), clear=partial(remove_unfinished, out))
>>> run_jobs(task, bags, on_done=print, workers=4)
>>> run_jobs(task, bags, on_done=print, cluster=Cluster("tcp://head:8786", out))
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from smvae_core.errors import SMVAEError
from smvae_core.processes import without_interrupts, without_main

if TYPE_CHECKING:
    from smvae_ros.cluster import Cluster

Result = TypeVar("Result")


class ClusterError(SMVAEError):
    """A cluster that cannot be reached, or that is lost."""


def nothing(name: str) -> None:
    """Clear nothing."""


@dataclass(frozen=True)
class Task(Generic[Result]):
    """The work on one bag. It is sent to other processes.

    Attributes:
        run: called with the bag's name and path, and the number of threads that compute.
        clear: called with the bag's name; removes what a process that was killed at the bag left.
    """

    run: Callable[[str, Path, int], Result]
    clear: Callable[[str], None] = nothing


@dataclass(frozen=True)
class Done(Generic[Result]):
    """The end of the work on one bag: the result of the task, or why there is none."""

    name: str
    result: Result | None = None
    error: str | None = None


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
    left = dict(bags)
    done: dict[str, Done[Result]] = {}
    deaths: Counter[str] = Counter()

    def end(one: Done[Result]) -> None:
        del left[one.name]
        done[one.name] = one
        if one.error is not None:
            task.clear(one.name)
        on_done(one)

    while left:
        with cluster.pool(task) if cluster else _processes(task, left, workers) as (executor, job):
            for one in _ended(executor, job, bags, list(left)):
                end(one)
        # A single process takes the bags in order, so it was killed at the first of those that are left.
        if left and workers == 1:
            deaths[killed := next(iter(left))] += 1
            if deaths[killed] == _TRIES:
                end(Done(killed, error=f"{bags[killed]}: its process was killed twice, as for want of memory"))
        workers = 1
    return [done[name] for name in bags]


def run_job(task: Task[Result], threads: int, name: str, bag: Path) -> Done[Result]:
    """Run a task on one bag; whatever it raises becomes a sentence that names the bag."""
    try:
        task.clear(name)  # this may be another try
        return Done(name, task.run(name, bag, threads))
    except SMVAEError as error:
        told = str(error)
        return Done(name, error=told if str(bag) in told else f"{bag}: {told}")
    except Exception as error:  # a defect that one bag meets does not stop the others
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
        return Done(name, error=f"{bag}: a defect of smvae, {where}: {_reason(error)}")


_TRIES = 2


def _ended(
    executor: Executor, job: Callable[[str, Path], Done[Result]], bags: Mapping[str, Path], names: Iterable[str]
) -> Iterator[Done[Result]]:
    """Run a job on the bags of these names; yield what becomes of each, without those whose process was killed."""
    try:
        with without_main(), without_interrupts():
            futures = {executor.submit(job, name, bags[name]): name for name in names}
    except BrokenProcessPool:
        return
    for future in as_completed(futures):
        try:
            yield future.result()
        except BrokenProcessPool:
            continue
        except CancelledError:
            raise ClusterError("the scheduler of the cluster was lost before the end") from None
        except Exception as error:  # Dask gave the bag up
            killed = type(error).__name__ == "KilledWorker"
            why = "every worker that tried it died, as for want of memory" if killed else _reason(error)
            yield Done(futures[future], error=f"{bags[futures[future]]}: it could not be run ({why})")


@contextmanager
def _processes(
    task: Task[Result], left: Iterable[str], workers: int
) -> Iterator[tuple[Executor, Callable[[str, Path], Done[Result]]]]:
    """Start processes of this machine; after Ctrl-C, end them at once and remove what they made of the bags left."""
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    # A forked process may hang, because torch has threads.
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    try:
        yield executor, partial(run_job, task, threads)
        executor.shutdown()
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        executor.shutdown(cancel_futures=True)
        for name in left:
            task.clear(name)
        raise


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]

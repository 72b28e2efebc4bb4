"""Several bags in several processes: each gets a folder of its own, and a bad bag does not stop the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from pathlib import Path

from smvae_core.errors import SMVAEError
from smvae_core.scores import merged
from smvae_ros.bags.repair import reason_of
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.results_folder import ReplayError
from smvae_ros.replay.run import OnSet, replay
from smvae_ros.replay.summary import BagResult, ReplaysSummary, ReplaySummary
from smvae_ros.report.write import write_index, write_report


def replay_with_report(
    bag: Path, out: Path, job: ReplayJob, threads: int, on_set: OnSet = lambda seconds, of: None
) -> ReplaySummary:
    """Replay one bag and write its report beside the results; see `smvae_ros.replay.run.replay`."""
    summary = replay(bag, out, job, threads, on_set)
    write_report(out)
    return summary


def replay_many(
    bags: dict[str, Path], out: Path, job: ReplayJob, workers: int, on_bag: Callable[[BagResult], None]
) -> ReplaysSummary:
    """Replay several bags at once; write the summary.json of all (`ReplaysSummary`) and an index into `out`.

    Args:
        bags: by the folder in `out` that their results go into.
        workers: number of processes, which share the cores.
        on_bag: called after each bag, in the order of `bags`.

    Raises:
        ReplayError: `out` cannot be written, or a process was killed.
        CheckpointError, ConfigurationError, WhatIfError: something is wrong with the job.
    """
    what_if = job.check()
    if out.exists() and not out.is_dir():
        raise ReplayError(f"{out}: expected a folder or nothing, found a file")
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    results = []
    # A forked process may hang, because torch has threads.
    context = multiprocessing.get_context("spawn")
    stopped = context.Event()
    pool = ProcessPoolExecutor(workers, context, _start, (stopped,))
    try:
        # Ctrl-C reaches all processes: those that are still being started inherit the blocked signal.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)
        try:
            futures = [pool.submit(_here, job, bag, label, out / label, threads) for label, bag in bags.items()]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for future in futures:
            results.append(future.result())
            on_bag(results[-1])
    except BrokenProcessPool:
        raise ReplayError(
            f"{out}: a process was killed, as for want of memory; fewer at a time (--workers) need less"
        ) from None
    finally:
        # After Ctrl-C the pool does not cancel what it has handed on already.
        stopped.set()
        pool.shutdown(cancel_futures=True)
    summary = ReplaysSummary(
        checkpoint=job.checkpoint_path.name,
        what_if=what_if,
        bags=tuple(results),
        sets=sum(result.sets for result in results),
        evaluation=merged([result.evaluation for result in results if result.evaluation is not None]),
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "summary.json").write_text(summary.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise ReplayError(f"{out}: cannot be written ({error.strerror})") from None
    write_index(out)
    return summary


_INTERRUPT = {signal.SIGINT}

_stopped: Event
"""In a replaying process: set once no further bag is to be started."""


def _start(stopped: Event) -> None:
    global _stopped
    _stopped = stopped


def _here(job: ReplayJob, bag: Path, label: str, out: Path, threads: int) -> BagResult:
    """Run `_one` in a worker process, which Ctrl-C interrupts only here: elsewhere it would end with a traceback."""
    if _stopped.is_set():
        raise KeyboardInterrupt
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)
    try:
        return _one(job, bag, label, out, threads)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)


def _one(job: ReplayJob, bag: Path, label: str, out: Path, threads: int) -> BagResult:
    try:
        summary = replay_with_report(bag, out, job, threads)
    except SMVAEError as error:
        return BagResult(bag=label, folder=None, error=str(error))
    except Exception as error:  # a defect that one bag meets does not stop the others
        place = traceback.extract_tb(error.__traceback__)[-1]
        return BagResult(
            bag=label,
            folder=None,
            error=f"{bag}: a defect of smvae, {type(error).__name__} in {Path(place.filename).name}, line "
            f"{place.lineno}: {reason_of(error)}",
        )
    return BagResult(
        bag=label, folder=label, sets=summary.sets, evaluation=summary.evaluation, damage=summary.extent.damage
    )

"""Replays with their reports: of one bag, or of several with an index."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from smvae_core.files import none_left_empty
from smvae_core.scores import merged
from smvae_ros.cluster import Cluster
from smvae_ros.jobs import Done, Task, run_jobs
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.results_folder import ReplayError, clear_unfinished
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
    bags: dict[str, Path],
    out: Path,
    job: ReplayJob,
    on_bag: Callable[[], None],
    workers: int = 1,
    cluster: str | None = None,
) -> ReplaysSummary:
    """Replay several bags at once; write the summary.json of all (`ReplaysSummary`) and an index into `out`.

    Args:
        bags: by the folder in `out` that their results go into.
        on_bag: called after each bag.
        workers: number of processes, which share the cores.
        cluster: address of a Dask scheduler to work on instead.

    Raises:
        ReplayError: `out` cannot be written.
        CheckpointError, ConfigurationError, WhatIfError: something is wrong with the job.
        ClusterError: the cluster cannot be reached, or it is lost.
    """
    what_if = job.check()
    if out.exists() and not out.is_dir():
        raise ReplayError(f"{out}: expected a folder or nothing, found a file")
    if cluster is not None:  # workers run in other folders
        job, out = replace(job, checkpoint=job.checkpoint_path.absolute()), out.absolute()
    task = Task(partial(_replay_bag, out, job), partial(_clear, out))
    place = None if cluster is None else Cluster(cluster, out)
    with none_left_empty(out):
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ReplayError(f"{out}: cannot be written ({error.strerror})") from None
        done = run_jobs(task, bags, lambda one: on_bag(), workers, place)
        results = tuple(map(_result, done))
        summary = ReplaysSummary(
            checkpoint=job.checkpoint_path.name,
            what_if=what_if,
            bags=results,
            sets=sum(result.sets for result in results),
            evaluation=merged([result.evaluation for result in results if result.evaluation is not None]),
        )
        try:
            (out / "summary.json").write_text(summary.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise ReplayError(f"{out}: cannot be written ({error.strerror})") from None
        write_index(out)
    return summary


def _replay_bag(out: Path, job: ReplayJob, name: str, bag: Path, threads: int) -> BagResult:
    summary = replay_with_report(bag, out / name, job, threads)
    return BagResult(
        bag=name,
        folder=name,
        sets=summary.sets,
        evaluation=summary.evaluation,
        damage=summary.extent.damage,
        warnings=summary.warnings,
    )


def _clear(out: Path, name: str) -> None:
    clear_unfinished(out / name)
    for folder in Path(name).parents[:-1]:
        with suppress(OSError):  # it holds other results
            (out / folder).rmdir()


def _result(done: Done[BagResult]) -> BagResult:
    return done.result or BagResult(bag=done.name, folder=None, error=done.error)

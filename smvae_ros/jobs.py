"""Several bags, in several processes: each into a folder of its own, a bad one told and the others done."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from smvae_core import checkpoint as checkpoints
from smvae_core.device import Device
from smvae_core.errors import SMVAEError
from smvae_core.modality import Modality
from smvae_core.scores import merged
from smvae_ros.bags.repair import reason_of
from smvae_ros.replay.faults import parse_what_if
from smvae_ros.replay.run import ReplayError, replay
from smvae_ros.replay.summary import BagResult, ReplaysSummary, ReplaySummary, WhatIf
from smvae_ros.report.report import write_index, write_report
from smvae_ros.settings import FusionSettings, default_settings


@dataclass(frozen=True)
class ReplayJob:
    """What to do with each bag; it travels to other processes.

    Attributes:
        checkpoint: None takes the one that ships.
        changes: to the default settings, for `FusionSettings.changed`, one after the other.
        device: where the model runs.
        drop: as `parse_what_if`, and so `noise` and `delay`.
        write_bag: also write latents and predictions as a rosbag2.
    """

    checkpoint: Path | None = None
    changes: tuple[dict[str, Any], ...] = ()
    device: Device = "auto"
    drop: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    delay: tuple[str, ...] = ()
    write_bag: bool = False

    def check(self) -> WhatIf:
        """Raise what is wrong with the job whatever the bag: CheckpointError, ConfigurationError, WhatIfError."""
        metadata = checkpoints.read_metadata(self.checkpoint or checkpoints.default_checkpoint())
        settings = self.settings(metadata.model.modalities)
        settings.bindings(metadata.model.modalities)
        return self.what_if(settings)

    def settings(self, modalities: Sequence[Modality]) -> FusionSettings:
        """How the messages of these modalities become sets."""
        chosen = default_settings(modalities)
        for change in self.changes:
            chosen = chosen.changed(change)
        return chosen

    def what_if(self, settings: FusionSettings) -> WhatIf:
        """The faults to put on top."""
        return parse_what_if(self.drop, self.noise, self.delay, settings)

    def run(
        self, bag: Path, out: Path, threads: int, on_set: Callable[[float, float | None], None] = lambda _, of: None
    ) -> ReplaySummary:
        """Replay one bag and write its report; see `smvae_ros.replay.replay`."""
        summary = replay(
            bag, self.checkpoint, out, self.settings, self.device, on_set, self.what_if, self.write_bag, threads
        )
        write_report(out)
        return summary


def replay_many(
    bags: dict[str, Path], out: Path, job: ReplayJob, workers: int, on_bag: Callable[[BagResult], None]
) -> ReplaysSummary:
    """Replay bags side by side and write summary.json of all (`ReplaysSummary`) into `out`.

    Args:
        bags: by the folder in `out` for its results.
        workers: processes; the cores are shared out among them.
        on_bag: called after each bag, in their order.

    Raises:
        ReplayError: `out` cannot be written, or a process was killed.
        CheckpointError, ConfigurationError, WhatIfError: as `ReplayJob.check`.
    """
    what_if = job.check()
    if out.exists() and not out.is_dir():
        raise ReplayError(f"{out}: expected a folder or nothing, found a file")
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    results = []
    # A process that is forked while torch has threads may hang.
    context = multiprocessing.get_context("spawn")
    stopped = context.Event()
    pool = ProcessPoolExecutor(workers, context, _start, (stopped,))
    try:
        # Ctrl-C reaches all processes: those that are still being started inherit that it waits.
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
        # After Ctrl-C: what the pool has handed on already, it does not cancel.
        stopped.set()
        pool.shutdown(cancel_futures=True)
    summary = ReplaysSummary(
        checkpoint=(job.checkpoint or checkpoints.default_checkpoint()).name,
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
"""Of a process that replays: set once no bag shall be begun any more."""


def _start(stopped: Event) -> None:
    global _stopped
    _stopped = stopped


def _here(job: ReplayJob, bag: Path, label: str, out: Path, threads: int) -> BagResult:
    """`_one` in a process of its own, which Ctrl-C interrupts only here: elsewhere it would end with a traceback."""
    if _stopped.is_set():
        raise KeyboardInterrupt
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)
    try:
        return _one(job, bag, label, out, threads)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)


def _one(job: ReplayJob, bag: Path, label: str, out: Path, threads: int) -> BagResult:
    try:
        summary = job.run(bag, out, threads)
    except SMVAEError as error:
        return BagResult(bag=label, folder=None, error=str(error))
    except Exception as error:  # what a bag brings to light that nobody thought of does not take the others along
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

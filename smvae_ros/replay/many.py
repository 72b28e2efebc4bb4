"""Several bags, in several processes: each into a folder of its own, a bad one told and the others done."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smvae_core import checkpoint as checkpoints
from smvae_core.engine import Device
from smvae_core.errors import SMVAEError
from smvae_core.evaluation import Evaluation, SubsetErrors
from smvae_core.modality import Modality
from smvae_ros.bags import BagError, find_bags
from smvae_ros.replay import ReplayError, replay
from smvae_ros.replay.faults import parse_what_if
from smvae_ros.replay.summary import BagResult, ReplaysSummary, ReplaySummary, WhatIf
from smvae_ros.report import write_index, write_report
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

    def check(self) -> None:
        """Raise what is wrong with the job whatever the bag: CheckpointError, ConfigurationError, WhatIfError."""
        metadata = checkpoints.read_metadata(self.checkpoint or checkpoints.default_checkpoint())
        settings = self.settings(metadata.model.modalities)
        settings.bindings(metadata.model.modalities)
        self.what_if(settings)

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


def named_bags(paths: Sequence[Path]) -> dict[str, Path]:
    """All bags in the paths, by the folder for their results: the bag's path from the folder that was named.

    Raises:
        BagError: a folder without any.
    """
    named: dict[str, Path] = {}
    for path in paths:
        bags = find_bags(path)
        if not bags:
            raise BagError(f"{path}: expected a rosbag2 or a folder of them, found none")
        for bag in bags:
            relative = bag.relative_to(path) if bag != path else Path(bag.resolve().name)
            stem = relative.name if bag.is_dir() else relative.name.partition(".")[0]
            label = wanted = str(relative.with_name(stem))
            number = 2
            while label in named:
                label, number = f"{wanted}_{number}", number + 1
            named[label] = bag
    return named


def replay_many(
    bags: dict[str, Path], out: Path, job: ReplayJob, workers: int, on_bag: Callable[[BagResult], None]
) -> ReplaysSummary:
    """Replay bags side by side and write summary.json of all (`ReplaysSummary`) into `out`.

    Args:
        bags: by the folder in `out` for its results.
        workers: processes; the cores are shared out among them.
        on_bag: called after each bag, in their order.

    Raises:
        ReplayError: `out` cannot be written.
        CheckpointError, ConfigurationError, WhatIfError: as `ReplayJob.check`.
    """
    job.check()
    if out.exists() and not out.is_dir():
        raise ReplayError(f"{out}: expected a folder or nothing, found a file")
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    results = []
    # A process that is forked while torch has threads may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_one, job, bag, label, out / label, threads) for label, bag in bags.items()]
        for future in futures:
            results.append(future.result())
            on_bag(results[-1])
    summary = ReplaysSummary(
        bags=tuple(results),
        sets=sum(result.sets for result in results),
        evaluation=_together([result.evaluation for result in results if result.evaluation is not None]),
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "summary.json").write_text(summary.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise ReplayError(f"{out}: cannot be written ({error.strerror})") from None
    write_index(out)
    return summary


def _one(job: ReplayJob, bag: Path, label: str, out: Path, threads: int) -> BagResult:
    try:
        summary = job.run(bag, out, threads)
    except SMVAEError as error:
        return BagResult(bag=label, folder=None, error=str(error))
    return BagResult(
        bag=label, folder=label, sets=summary.sets, evaluation=summary.evaluation, damage=summary.extent.damage
    )


def _together(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """The mean of all, each weighing as many sets as its rows are over."""
    if not evaluations:
        return None
    rows = []
    for same in zip(*(evaluation.subsets for evaluation in evaluations)):
        names = {name: None for row in same for name in row.mse}
        rows.append(
            SubsetErrors(
                subset=same[0].subset,
                samples=sum(row.samples for row in same),
                mse={name: _mean(same, lambda row: row.mse[name], name) for name in names},
                share={
                    name: _mean(same, lambda row: row.mse[name], name)
                    / max(_mean(same, lambda row: row.mse[name] / max(row.share[name], 1e-12), name), 1e-12)
                    for name in names
                },
            )
        )
    return Evaluation(samples=sum(evaluation.samples for evaluation in evaluations), subsets=tuple(rows))


def _mean(rows: Sequence[SubsetErrors], value: Callable[[SubsetErrors], float], name: str) -> float:
    known = [row for row in rows if name in row.mse]
    return sum(row.samples * value(row) for row in known) / sum(row.samples for row in known)

"""Offline evaluation: a bag through the node's own synchroniser, conversions and model, the same way every time.

The clock is the bag's receive time, so nothing depends on the speed of the machine: the same bag gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from smvae_core import checkpoint as checkpoints
from smvae_core.device import arithmetic, device_errors
from smvae_core.inference.engine import Engine
from smvae_core.processes import ProcessError, can_have_children, made_elsewhere
from smvae_ros.bags.naming import FUSION_BAG, SETS
from smvae_ros.bags.reading import BagError
from smvae_ros.distrust import Distrust, policies
from smvae_ros.replay.fusion_bag import FusionBag
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.judge import Judge
from smvae_ros.replay.pictures import Moment, write_pictures
from smvae_ros.replay.prepared import Prepared
from smvae_ros.replay.reading import BagRead, ReadingPlan, read, read_alone
from smvae_ros.replay.results_folder import refuse_occupied, results_folder
from smvae_ros.replay.setup import Setup, reading_plan, set_up
from smvae_ros.replay.summarise import summarise
from smvae_ros.replay.summary import ReplaySummary, Timing
from smvae_ros.replay.table import SetTable
from smvae_ros.replay.threads import judged_in_order, undisturbed

_AHEAD = 64 << 20
"""Bytes of sets that the reader may be ahead, as while the model is built."""
Reading = Generator[Prepared, None, BagRead]
OnSet = Callable[[float, float | None], None]
"""Called after each set with the seconds of the bag that are done and, where its metadata tells it, its length."""


def replay(
    bag: Path, out: Path, job: ReplayJob, threads: int = 1, on_set: OnSet = lambda seconds, of: None
) -> ReplaySummary:
    """Evaluate a checkpoint on a bag, as far as it can be read.

    Writes into `out`: sets.parquet (`replay.table`), pictures.npz and predictions.png (`replay.pictures`),
    summary.json (`ReplaySummary`), timing.json (`Timing`), and on request a bag (`replay.fusion_bag`). The same bag,
    job and machine give the same bytes, timing.json apart.

    Args:
        threads: threads that compute; the results do not depend on their number. With more than one, a process of its
            own reads the bag.

    Raises:
        BagError: not a bag, nothing in it can be read, a topic missing, or no set in it.
        CheckpointError, EngineError, ConfigurationError, WhatIfError: something is wrong with the job.
        ReplayError: `out` cannot be written, or is a bag.
    """
    refuse_occupied(out)
    loaded = checkpoints.load(job.checkpoint_path)
    plan = reading_plan(job, loaded)
    with _reading(bag, plan, threads) as prepared:
        setup = set_up(job, loaded, plan)
        hashes = setup.hashes(bag)
        device = setup.engine.device
        # The same arithmetic as the node's. It is set for all threads at once, since it belongs to the process.
        with results_folder(out) as folder, undisturbed(), arithmetic(device), device_errors(device):
            began = perf_counter()
            bag_read, judge = _judge_sets(prepared, setup, folder, hashes, job.write_bag, threads, on_set)
            moments = judge.moments.chosen()
            write_pictures(folder, moments, setup.engine.modalities, setup.inference, threads)
            summary = summarise(bag_read, judge, setup, bag, hashes)
            (folder / "summary.json").write_text(summary.model_dump_json(indent=2) + "\n")
            timing = _timing(setup.engine, moments, summary.extent.seconds, perf_counter() - began)
            (folder / "timing.json").write_text(timing.model_dump_json(indent=2) + "\n")
    return summary


@contextmanager
def _reading(bag: Path, plan: ReadingPlan, threads: int) -> Iterator[Reading]:
    """Yield what reads the bag: a process of its own, which does not share Python's interpreter, or one thread."""
    if threads > 1 and can_have_children():
        try:
            with made_elsewhere(partial(read_alone, bag, plan), ahead=_AHEAD) as prepared:
                yield prepared
        except ProcessError as error:
            raise BagError(f"{bag}: it could not be read to its end: {error}, as for want of memory") from None
    else:
        with closing(read(bag, plan)) as prepared:
            yield prepared


def _judge_sets(
    prepared: Reading, setup: Setup, folder: Path, hashes: dict[str, str], write_bag: bool, threads: int, on_set: OnSet
) -> tuple[BagRead, Judge]:
    """Send every set of the bag through the model, and write the table and the bag of predictions."""
    bag_read: BagRead

    def sets() -> Iterator[Prepared]:
        nonlocal bag_read
        bag_read = yield from prepared

    plan, engine = setup.plan, setup.engine
    with ExitStack() as stack:
        table = stack.enter_context(SetTable(folder / SETS, engine.modalities, engine.latent, hashes))
        ignored = Distrust(policies(plan.settings)).names("off")
        fusion_bag = stack.enter_context(FusionBag(folder / FUSION_BAG, plan.bindings, ignored)) if write_bag else None
        judge = Judge(engine.modalities, table)
        for one, judged in judged_in_order(sets(), setup.inference, threads):
            judge.see(one, judged)
            if fusion_bag is not None:
                fusion_bag.write(one, judged)
            on_set(one.seconds, one.bag_seconds)
    return bag_read, judge


def _timing(engine: Engine, moments: Sequence[Moment], bag_seconds: float, wall_seconds: float) -> Timing:
    """Measure one set at a time through the engine, with every modality predicted."""
    engine.warm_up()
    names = [modality.name for modality in engine.modalities]
    taken = []
    for moment in moments:
        began = perf_counter()
        engine.infer(moment.held, names)
        taken.append(perf_counter() - began)
    return Timing(
        wall_seconds=wall_seconds,
        bag_seconds_per_wall_second=bag_seconds / wall_seconds,
        inference_median_s=float(np.median(taken)),
        inference_p99_s=float(np.percentile(taken, 99)),
        inference_sets=len(taken),
    )

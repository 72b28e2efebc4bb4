"""Offline evaluation: a bag through the node's own synchroniser, conversions and model, the same way every time.

The clock is the bag's receive time, so nothing depends on the speed of the machine: the same bag gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

import numpy as np

from smvae_core.device import arithmetic, device_errors
from smvae_core.inference.engine import Engine
from smvae_ros.bags.naming import FUSION_BAG, SETS
from smvae_ros.bags.reading import Bag, BagError, open_bag
from smvae_ros.distrust import Distrust, policies
from smvae_ros.replay.faults import Faults
from smvae_ros.replay.fusion_bag import FusionBag
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.judge import Judge, prepare
from smvae_ros.replay.other_bag import OtherBag
from smvae_ros.replay.pictures import Moment, write_pictures
from smvae_ros.replay.results_folder import refuse_occupied, results_folder
from smvae_ros.replay.samples import Samples
from smvae_ros.replay.sets import RecordedSets
from smvae_ros.replay.setup import Setup, load
from smvae_ros.replay.subsets import SubsetRate, usual_rate
from smvae_ros.replay.summarise import Pass, fates, summarise
from smvae_ros.replay.summary import ReplaySummary, Timing
from smvae_ros.replay.table import SetTable
from smvae_ros.replay.threads import judged_in_order, undisturbed

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
        threads: threads that compute; the results do not depend on their number.

    Raises:
        BagError: not a bag, nothing in it can be read, a topic missing, or no set in it.
        CheckpointError, EngineError, ConfigurationError, WhatIfError: something is wrong with the job.
        ReplayError: `out` cannot be written, or is a bag.
    """
    refuse_occupied(out)
    setup = load(job)
    hashes = setup.hashes(bag)
    device = setup.engine.device
    # The same arithmetic as the node's. It is set for all threads at once, since it belongs to the process.
    with results_folder(out) as folder, undisturbed(), arithmetic(device), device_errors(device):
        began = perf_counter()
        with open_bag(bag, setup.topics, setup.types, optional=setup.optional) as opened:
            done = _judge_sets(opened, setup, folder, hashes, job.write_bag, threads, on_set)
        moments = done.judge.moments.chosen()
        write_pictures(folder, moments, setup.engine.modalities, setup.inference, threads)
        summary = summarise(done, setup, bag, hashes)
        (folder / "summary.json").write_text(summary.model_dump_json(indent=2) + "\n")
        timing = _timing(setup.engine, moments, summary.extent.seconds, perf_counter() - began)
        (folder / "timing.json").write_text(timing.model_dump_json(indent=2) + "\n")
    return summary


def _judge_sets(
    bag: Bag, setup: Setup, folder: Path, hashes: dict[str, str], write_bag: bool, threads: int, on_set: OnSet
) -> Pass:
    """Send every set of the bag through the model, and write the table and the bag of predictions."""
    modalities = setup.engine.modalities
    synchronizer = setup.settings.synchronizer()
    samples = Samples(bag, setup.bindings)
    with ExitStack() as stack:
        others = {
            fault: stack.enter_context(OtherBag(fault, setup.settings, setup.bindings, modalities)).at
            for fault in setup.what_if.faults
            if fault.kind == "swap"
        }
        faults = Faults(setup.what_if, modalities, others)
        sets = RecordedSets(samples, synchronizer, setup.settings.synchronizer_streams(), faults)
        rate = usual_rate(bag.recorded_seconds) if setup.subset_rate is None else setup.subset_rate
        subset_rate = SubsetRate(rate)
        prepared = (
            prepare(recorded, samples.bindings, faults, bag.begin_ns or 0, subset_rate.takes(recorded.sample_set))
            for recorded in sets
        )
        table = stack.enter_context(SetTable(folder / SETS, modalities, setup.engine.latent, hashes))
        ignored = Distrust(policies(setup.settings)).names("off")
        fusion_bag = stack.enter_context(FusionBag(folder / FUSION_BAG, setup.bindings, ignored)) if write_bag else None
        judge = Judge(modalities, table)
        for one, judged in judged_in_order(prepared, setup.inference, threads):
            begin_ns = bag.begin_ns or 0
            judge.see(one, judged, begin_ns)
            if fusion_bag is not None:
                fusion_bag.write(one.sample_set, judged, one.frames, samples.bindings)
            on_set((one.sample_set.emitted_ns - begin_ns) / 1e9, bag.recorded_seconds)
        if not judge.sets:
            raise BagError(f"{bag.path}: expected sets, found none: {fates(synchronizer, samples)}")
    return Pass(bag, samples, synchronizer, sets, judge, rate)


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

"""Offline evaluation: a bag through the node's own synchroniser, conversions and model, the same way every time.

Time is the bag's log time, so nothing depends on how fast the machine is: the same bag gives the same bytes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np

import smvae_core
from smvae_core import checkpoint as checkpoints
from smvae_core.device import Device
from smvae_core.errors import SMVAEError
from smvae_core.inference.engine import Engine
from smvae_core.modality import Modality
from smvae_ros.bags.naming import FUSION_BAG, SETS
from smvae_ros.bags.reading import Bag, BagError, bag_hash, is_bag, open_bag
from smvae_ros.replay.faults import Faults, dropped_altogether, interval
from smvae_ros.replay.fusion_bag import FusionBag
from smvae_ros.replay.inference import BatchInference
from smvae_ros.replay.judge import Judge, prepare
from smvae_ros.replay.pictures import SHEET_NAME, write_pictures
from smvae_ros.replay.sets import RecordedSets
from smvae_ros.replay.summary import BagExtent, ReplaySummary, StreamSummary, Timing, WhatIf
from smvae_ros.replay.table import SetTable
from smvae_ros.replay.threads import judged_in_order, undisturbed
from smvae_ros.settings import FusionSettings
from smvae_ros.synchronizer.set_synchronizer import SetSynchronizer
from smvae_ros.synchronizer.stream import StreamCounts

_OTHER_CLOCK_NS = 10_000_000_000


class ReplayError(SMVAEError):
    """The results cannot be written."""


def replay(
    bag: Path,
    checkpoint: Path | None,
    out: Path,
    settings: Callable[[Sequence[Modality]], FusionSettings],
    device: Device = "auto",
    on_set: Callable[[float, float | None], None] = lambda seconds, of: None,
    what_if: Callable[[FusionSettings], WhatIf] = lambda settings: WhatIf(),
    write_bag: bool = False,
    threads: int = 1,
) -> ReplaySummary:
    """Evaluate a checkpoint on a bag, as far as it can be read.

    Writes into `out`: summary.json (`ReplaySummary`), sets.parquet (`replay.table`), pictures.npz and predictions.png
    (`replay.pictures`), timing.json (`Timing`), and on request a bag (`replay.bag`). The same bag, checkpoint, settings
    and machine give the same bytes, timing.json apart.

    Args:
        checkpoint: None takes the one that ships.
        settings: for the checkpoint's modalities; topics are resolved at the root.
        on_set: called after each set with the seconds of the bag done and, where its metadata tells, its length.
        what_if: the faults to put on top.
        write_bag: also write latents and predictions as a rosbag2 into `out`/fusion.
        threads: that compute; the results do not depend on it.

    Raises:
        BagError: not a bag, nothing in it can be read, a topic missing, or no set in it.
        CheckpointError, EngineError, ConfigurationError, WhatIfError: as the engine, the settings and `what_if`.
        ReplayError: `out` cannot be written, or is a bag.
    """
    checkpoint = checkpoints.default_checkpoint() if checkpoint is None else checkpoint
    if out.exists() and not out.is_dir():
        raise ReplayError(f"{out}: expected a folder or nothing, found a file")
    if is_bag(out):
        raise ReplayError(f"{out}: expected a folder for the results, found a bag")
    loaded = checkpoints.load(checkpoint)
    engine = Engine(loaded, device, backend="eager")
    chosen = settings(engine.modalities)
    faults = what_if(chosen)
    inference = BatchInference(loaded.model, engine.mean, engine.device, pictures=write_bag)
    hashes = {
        "bag_sha256": bag_hash(bag) if bag.exists() else "",
        "checkpoint_sha256": sha256(checkpoint.read_bytes()).hexdigest(),
        "settings_sha256": sha256((chosen.model_dump_json() + faults.model_dump_json()).encode()).hexdigest(),
    }
    bindings = chosen.bindings(engine.modalities)
    topics = chosen.root_topics()
    types = {binding.modality.name: binding.recorded for binding in bindings}
    absent = dropped_altogether(faults) | {name for name, stream in chosen.streams.items() if not stream.enabled}
    with _results(out) as folder, undisturbed():
        began = perf_counter()
        with ExitStack() as stack:
            opened = stack.enter_context(open_bag(bag, topics, types, optional=absent))
            synchronizer = chosen.synchronizer()
            streams = chosen.synchronizer_streams()
            sets = RecordedSets(opened, synchronizer, streams, Faults(faults, engine.modalities))
            table = SetTable(folder / SETS, engine.modalities, engine.latent, hashes)
            judge = Judge(engine.modalities, stack.enter_context(table))
            fusion_bag = stack.enter_context(FusionBag(folder / FUSION_BAG, bindings)) if write_bag else None
            prepared = (prepare(recorded, bindings, sets.faults) for recorded in sets)
            for one, judged in judged_in_order(prepared, inference, threads):
                judge.see(one, judged, opened.begin_ns or 0)
                if fusion_bag is not None:
                    fusion_bag.write(one.sample_set, judged, one.frames)
                on_set((one.sample_set.emitted_ns - (opened.begin_ns or 0)) / 1e9, opened.recorded_seconds)
            if not judge.sets:
                raise BagError(f"{bag}: expected sets, found none: {_fates(synchronizer)}")
        moments = judge.moments.chosen()
        write_pictures(folder, moments, engine.modalities, inference, threads)
        extent = BagExtent(
            whole=not opened.damage,
            damage=tuple(opened.damage),
            begin_ns=opened.begin_ns or 0,
            seconds=((opened.end_ns or 0) - (opened.begin_ns or 0)) / 1e9,
            recorded_seconds=opened.recorded_seconds,
            messages=opened.messages_read,
        )
        summary = ReplaySummary(
            bag=bag.resolve().name,
            checkpoint=checkpoint.name,
            **hashes,
            versions={
                "smvae": smvae_core.__version__,
                **{name: version(name) for name in ("mcap", "numpy", "pyarrow", "rosbags", "torch")},
            },
            device=engine.device.type,
            settings=chosen,
            what_if=faults,
            extent=extent,
            warnings=tuple(_warnings(opened, sets, synchronizer, judge, topics)),
            modalities=judge.names,
            streams={name: _stream_summary(name, opened, sets, synchronizer, judge, topics) for name in topics},
            sets=judge.sets,
            sets_by_reason=dict(sorted(synchronizer.sets.items())),
            sets_by_subset=dict(judge.by_subset.most_common()),
            empty_ticks=synchronizer.empty_ticks,
            resets=synchronizer.resets,
            evaluation=judge.evaluation(),
        )
        (folder / "summary.json").write_text(summary.model_dump_json(indent=2) + "\n")
        timing = _timing(engine, [moment.held for moment in moments], extent.seconds, perf_counter() - began)
        (folder / "timing.json").write_text(timing.model_dump_json(indent=2) + "\n")
    return summary


@contextmanager
def _results(out: Path) -> Iterator[Path]:
    """A folder to write into, whose content moves to `out` at the end; where that does not come, nothing is left."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(dir=out, prefix=".replay.") as folder:
                yield Path(folder)
                _move(Path(folder), out)
        except BaseException:
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()
            raise
    except OSError as error:
        raise ReplayError(f"{out}: cannot be written ({error.strerror})") from None


def _move(folder: Path, out: Path) -> None:
    """Results to their place. What an older replay left there and this one has not would pass for its own."""
    new = {result.name for result in folder.iterdir()}
    old = {FUSION_BAG, SHEET_NAME} - new if (out / SETS).exists() else set()
    for name in sorted(new | old):
        if is_bag(out / name):
            shutil.rmtree(out / name)
        elif name in old and (out / name).is_file():
            (out / name).unlink()
        if name in new:
            os.replace(folder / name, out / name)


def _stream_summary(
    name: str,
    bag: Bag,
    sets: RecordedSets,
    synchronizer: SetSynchronizer,
    judge: Judge,
    topics: Mapping[str, str],
) -> StreamSummary:
    counts = synchronizer.counts[name]
    lags_ns = sets.lags_ns.get(name)
    return StreamSummary(
        topic=topics[name],
        recorded=sets.recorded[name],
        publishers=bag.publishers[name],
        lag_s=None if lags_ns is None else (lags_ns[0] / 1e9, lags_ns[1] / 1e9),
        received=counts.received,
        used=counts.used,
        sets=counts.sets,
        zero_stamp=counts.zero_stamp,
        dropped=dict(sorted(counts.dropped.items())),
        rejected=judge.rejected[name],
        rejected_because=judge.rejected_because.get(name),
    )


def _warnings(
    bag: Bag, sets: RecordedSets, synchronizer: SetSynchronizer, judge: Judge, topics: Mapping[str, str]
) -> Iterator[str]:
    for name, topic in topics.items():
        if not sets.recorded[name]:
            yield f"{topic}: no messages, so {name} is never judged"
        if bag.publishers[name] > 1:
            yield f"{topic}: {bag.publishers[name]} publishers, whose messages went into one stream"
        if unstamped := synchronizer.counts[name].zero_stamp:
            yield f"{topic}: {unstamped} of {sets.recorded[name]} messages without a stamp; their log time took its place"
        if name in sets.lags_ns and min(map(abs, sets.lags_ns[name])) > _OTHER_CLOCK_NS:
            yield f"{topic}: stamps are {sets.lags_ns[name][0] / 1e9:.1f} s off the bag's clock, as if of another one"
        if judge.rejected[name]:
            because = judge.rejected_because[name]
            yield f"{topic}: {judge.rejected[name]} sets had to do without {name}: {because}"
        if synchronizer.counts[name].received and not synchronizer.counts[name].sets:
            yield f"{topic}: none in a set: {_fate(synchronizer.counts[name])}"
    for drop in sets.faults.without_effect():
        if not sets.recorded[drop.modality]:
            continue  # said above
        yield f"{topics[drop.modality]}: nothing to take away {interval(drop)}, where it has no messages"
    if synchronizer.resets:
        yield f"time jumped back {'once' if synchronizer.resets == 1 else f'{synchronizer.resets} times'}"


def _fates(synchronizer: SetSynchronizer) -> str:
    """What became of all messages, in a sentence."""
    return ", ".join(f"{name}: {_fate(counts)}" for name, counts in synchronizer.counts.items())


def _fate(counts: StreamCounts) -> str:
    dropped = "".join(f", {number} dropped as {reason}" for reason, number in sorted(counts.dropped.items()))
    return f"{counts.received} received{dropped}"


def _timing(engine: Engine, sets: Sequence[dict[str, np.ndarray]], bag_seconds: float, wall_seconds: float) -> Timing:
    engine.warm_up()
    names = [modality.name for modality in engine.modalities]
    taken = []
    for arrays in sets:
        began = perf_counter()
        engine.infer(arrays, names)
        taken.append(perf_counter() - began)
    return Timing(
        wall_seconds=wall_seconds,
        bag_seconds_per_wall_second=bag_seconds / wall_seconds,
        inference_median_s=float(np.median(taken)),
        inference_p99_s=float(np.percentile(taken, 99)),
        inference_sets=len(taken),
    )

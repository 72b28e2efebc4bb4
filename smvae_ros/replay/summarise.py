"""The summary of one pass over a bag, from what its parts counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import smvae_core
from smvae_ros.bags.contents import left_out
from smvae_ros.bags.reading import Bag
from smvae_ros.replay.account import CONSIDERABLE, in_words
from smvae_ros.replay.judge import Judge
from smvae_ros.replay.samples import Samples
from smvae_ros.replay.sets import RecordedSets
from smvae_ros.replay.setup import Setup
from smvae_ros.replay.summary import BagExtent, ReplaySummary, StreamSummary
from smvae_ros.replay.turns import in_turn
from smvae_ros.synchronizer.set_synchronizer import SetSynchronizer
from smvae_ros.synchronizer.stream import StreamCounts

_OTHER_CLOCK_NS = 10_000_000_000
_MOST_REASONS = 8
_LONG_SILENCE_S = 60.0
# Messages that no set had room for, or that nobody wants.
_SPARE = ("unused", "overflow", "disabled")


@dataclass(frozen=True)
class Pass:
    """One pass of a bag through the synchroniser and the model: the parts that counted."""

    bag: Bag
    samples: Samples
    synchronizer: SetSynchronizer
    sets: RecordedSets
    judge: Judge
    subset_rate: float


def summarise(done: Pass, setup: Setup, bag: Path, hashes: dict[str, str]) -> ReplaySummary:
    """Return the content of summary.json."""
    return ReplaySummary(
        bag=bag.resolve().name,
        checkpoint=setup.checkpoint.name,
        **hashes,
        versions={
            "smvae": smvae_core.__version__,
            **{name: version(name) for name in ("mcap", "numpy", "pyarrow", "rosbags", "torch")},
        },
        device=setup.engine.device.type,
        settings=setup.settings,
        what_if=setup.what_if,
        extent=_extent(done.bag),
        warnings=tuple(dict.fromkeys(_warnings(done, setup.topics))),
        modalities=done.judge.names,
        streams={name: _stream_summary(name, topic, done) for name, topic in setup.topics.items()},
        sets=done.judge.sets,
        sets_by_reason=dict(sorted(done.synchronizer.sets.items())),
        sets_by_subset=dict(done.judge.by_subset.most_common()),
        empty_ticks=done.synchronizer.empty_ticks,
        resets=done.synchronizer.resets,
        evaluation=done.judge.evaluation(),
        subset_rate=done.subset_rate,
        calibration=setup.engine.metadata.calibration,
    )


def fates(synchronizer: SetSynchronizer, samples: Samples) -> str:
    """Return what became of the messages of each modality, in a sentence."""
    counts = synchronizer.counts.items()
    return ", ".join(f"{name}: {_fate(count, samples.unusable[name])}" for name, count in counts)


def _fate(counts: StreamCounts, unusable: Counter[str]) -> str:
    dropped = "".join(f", {number} dropped as {reason}" for reason, number in sorted(counts.dropped.items()))
    unused = "".join(f", {number} unusable ({reason})" for reason, number in unusable.most_common())
    return f"{counts.received} received{dropped}{unused}"


def _extent(bag: Bag) -> BagExtent:
    return BagExtent(
        whole=not bag.damage,
        damage=tuple(bag.damage),
        begin_ns=bag.begin_ns or 0,
        seconds=((bag.end_ns or 0) - (bag.begin_ns or 0)) / 1e9,
        recorded_seconds=bag.recorded_seconds,
        messages=bag.messages_read,
    )


def _stream_summary(name: str, topic: str, done: Pass) -> StreamSummary:
    counts = done.synchronizer.counts[name]
    lags_ns = done.sets.lags_ns.get(name)
    return StreamSummary(
        topic=topic,
        recorded=done.sets.recorded[name] + sum(done.samples.unusable[name].values()),
        publishers=done.bag.publishers[name],
        lag_s=None if lags_ns is None else (lags_ns[0] / 1e9, lags_ns[1] / 1e9),
        received=counts.received,
        used=counts.used,
        sets=counts.sets,
        zero_stamp=counts.zero_stamp,
        dropped=dict(sorted(counts.dropped.items())),
        unusable=dict(done.samples.unusable[name].most_common(_MOST_REASONS)),
        rejected=done.judge.rejected[name],
        rejected_because=done.judge.rejected_because.get(name),
    )


def _warnings(done: Pass, topics: dict[str, str]) -> Iterator[str]:
    """Yield what a reader of the figures should know of the bag, a sentence each."""
    yield from left_out(done.bag.foreign)
    for name, topic in topics.items():
        yield from (f"{topic}: {warning}" for warning in _stream_warnings(name, topic, done))
        if done.bag.publishers[name] <= 1 and (reason := done.samples.turns[name].reason):
            yield in_turn(topic, reason)
    for fault in done.sets.faults.without_effect():
        if done.sets.recorded[fault.modality]:  # otherwise the missing topic was already warned of
            effect = "to take away" if fault.kind == "drop" else f"to {fault.kind}"
            yield f"{topics[fault.modality]}: nothing {effect} {fault.interval}, where it has no messages"
    if resets := done.synchronizer.resets:
        yield f"time jumped back {'once' if resets == 1 else f'{resets} times'}"


def _stream_warnings(name: str, topic: str, done: Pass) -> Iterator[str]:
    recorded, counts, publishers = done.sets.recorded[name], done.synchronizer.counts[name], done.bag.publishers[name]
    unusable = done.samples.unusable[name]
    read = recorded + sum(unusable.values()) + done.bag.damaged[topic]
    if (told := done.bag.recorded_messages.get(topic, 0)) > read:
        yield f"{read:,} of {told:,} messages could be read"
    lost = {reason: count for reason, count in counts.dropped.items() if reason not in _SPARE}
    if name not in done.sets.faults.touched and sum(lost.values()) > CONSIDERABLE * recorded:
        yield f"{sum(lost.values()):,} of {recorded:,} messages were lost: {in_words(lost)}"
    if recorded and (silent_s := done.sets.spacings[name].longest_ns / 1e9) > _LONG_SILENCE_S:
        yield f"nothing came for {silent_s:,.0f} s"
    if unusable:
        reason, _ = unusable.most_common(1)[0]
        yield f"{sum(unusable.values())} of {recorded + sum(unusable.values())} messages cannot be used: {reason}"
    if not recorded and not unusable:
        yield f"no messages, so {name} is never judged"
    if publishers > 1:
        yield f"{publishers} publishers, whose messages went into one stream"
    if counts.zero_stamp:
        yield f"{counts.zero_stamp} of {recorded} messages without a stamp; their receive time took its place"
    lags_ns = done.sets.lags_ns.get(name)
    if lags_ns and min(map(abs, lags_ns)) > _OTHER_CLOCK_NS:
        yield f"stamps are {lags_ns[0] / 1e9:.1f} s off the bag's clock, as if of another one"
    if rejected := done.judge.rejected[name]:
        yield f"{rejected} sets had to do without {name}: {done.judge.rejected_because[name]}"
    if counts.received and not counts.sets:
        yield f"none in a set: {_fate(counts, unusable)}"

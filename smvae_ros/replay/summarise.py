"""The summary of a replay, from what its parts counted."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import smvae_core
from smvae_ros.bags.contents import left_out
from smvae_ros.replay.account import CONSIDERABLE, in_words
from smvae_ros.replay.judge import Judge
from smvae_ros.replay.reading import BagRead, StreamRead, fate
from smvae_ros.replay.setup import Setup
from smvae_ros.replay.summary import BagExtent, ReplaySummary, StreamSummary
from smvae_ros.replay.turns import in_turn

_OTHER_CLOCK_NS = 10_000_000_000
_MOST_REASONS = 8
_LONG_SILENCE_S = 60.0
# Messages that no set had room for, or that nobody wants.
_SPARE = ("unused", "overflow", "disabled")


def summarise(read: BagRead, judge: Judge, setup: Setup, bag: Path, hashes: dict[str, str]) -> ReplaySummary:
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
        settings=setup.plan.settings,
        what_if=setup.plan.what_if,
        extent=_extent(read),
        warnings=tuple(dict.fromkeys(_warnings(read, judge, setup.plan.topics))),
        modalities=judge.names,
        streams={name: _stream_summary(name, topic, read, judge) for name, topic in setup.plan.topics.items()},
        sets=judge.sets,
        sets_by_reason=read.sets_by_reason,
        sets_by_subset=dict(judge.by_subset.most_common()),
        empty_ticks=read.empty_ticks,
        resets=read.resets,
        evaluation=judge.evaluation(),
        subset_rate=read.subset_rate,
        calibration=setup.engine.metadata.calibration,
    )


def _extent(read: BagRead) -> BagExtent:
    return BagExtent(
        whole=not read.damage,
        damage=read.damage,
        begin_ns=read.begin_ns,
        seconds=(read.end_ns - read.begin_ns) / 1e9,
        recorded_seconds=read.recorded_seconds,
        messages=read.messages,
    )


def _stream_summary(name: str, topic: str, read: BagRead, judge: Judge) -> StreamSummary:
    stream = read.streams[name]
    counts, lags_ns = stream.counts, stream.lags_ns
    return StreamSummary(
        topic=topic,
        recorded=stream.recorded + sum(stream.unusable.values()),
        publishers=stream.publishers,
        lag_s=None if lags_ns is None else (lags_ns[0] / 1e9, lags_ns[1] / 1e9),
        received=counts.received,
        used=counts.used,
        sets=counts.sets,
        zero_stamp=counts.zero_stamp,
        dropped=dict(sorted(counts.dropped.items())),
        unusable=dict(stream.unusable.most_common(_MOST_REASONS)),
        rejected=judge.rejected[name],
        rejected_because=judge.rejected_because.get(name),
    )


def _warnings(read: BagRead, judge: Judge, topics: dict[str, str]) -> Iterator[str]:
    """Yield what a reader of the figures should know of the bag, a sentence each."""
    yield from left_out(read.foreign)
    for name, topic in topics.items():
        stream = read.streams[name]
        sentences = _stream_warnings(name, stream, delayed=name in read.touched)
        yield from (f"{topic}: {sentence}" for sentence in sentences)
        if rejected := judge.rejected[name]:
            yield f"{topic}: {rejected} sets had to do without {name}: {judge.rejected_because[name]}"
        if stream.counts.received and not stream.counts.sets:
            yield f"{topic}: none in a set: {fate(stream.counts, stream.unusable)}"
        if stream.publishers <= 1 and stream.in_turn:
            yield in_turn(topic, stream.in_turn)
    for fault in read.without_effect:
        if read.streams[fault.modality].recorded:  # otherwise the missing topic was already warned of
            effect = "to take away" if fault.kind == "drop" else f"to {fault.kind}"
            yield f"{topics[fault.modality]}: nothing {effect} {fault.interval}, where it has no messages"
    if resets := read.resets:
        yield f"time jumped back {'once' if resets == 1 else f'{resets} times'}"


def _stream_warnings(name: str, stream: StreamRead, delayed: bool) -> Iterator[str]:
    """Yield the sentences on the messages of one stream, whose messages a fault may delay or take away."""
    recorded, counts, unusable = stream.recorded, stream.counts, stream.unusable
    found = recorded + sum(unusable.values()) + stream.damaged
    if stream.told > found:
        yield f"{found:,} of {stream.told:,} messages could be read"
    lost = {reason: count for reason, count in counts.dropped.items() if reason not in _SPARE}
    if not delayed and sum(lost.values()) > CONSIDERABLE * recorded:
        yield f"{sum(lost.values()):,} of {recorded:,} messages were lost: {in_words(lost)}"
    if recorded and (silent_s := stream.longest_silence_ns / 1e9) > _LONG_SILENCE_S:
        yield f"nothing came for {silent_s:,.0f} s"
    if unusable:
        reason, _ = unusable.most_common(1)[0]
        yield f"{sum(unusable.values())} of {recorded + sum(unusable.values())} messages cannot be used: {reason}"
    if not recorded and not unusable:
        yield f"no messages, so {name} is never judged"
    if stream.publishers > 1:
        yield f"{stream.publishers} publishers, whose messages went into one stream"
    if counts.zero_stamp:
        yield f"{counts.zero_stamp} of {recorded} messages without a stamp; their receive time took its place"
    if stream.lags_ns and min(map(abs, stream.lags_ns)) > _OTHER_CLOCK_NS:
        yield f"stamps are {stream.lags_ns[0] / 1e9:.1f} s off the bag's clock, as if of another one"

"""The reading of a bag: its messages become sets, each prepared for the model, and an account of them.

It needs no torch, so that a process of its own for it begins in a third of a second.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Collection, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from smvae_ros.bags.reading import Bag, BagError, open_bag
from smvae_ros.conversions.bindings import Binding
from smvae_ros.replay.faults import Faults
from smvae_ros.replay.other_bag import OtherBag
from smvae_ros.replay.prepared import Prepared, prepare
from smvae_ros.replay.samples import Samples
from smvae_ros.replay.sets import RecordedSets
from smvae_ros.replay.subsets import SubsetRate, usual_rate
from smvae_ros.replay.summary import Fault, WhatIf
from smvae_ros.replay.what_if import dropped_altogether
from smvae_ros.settings import FusionSettings
from smvae_ros.synchronizer.set_synchronizer import SetSynchronizer
from smvae_ros.synchronizer.stream import StreamCounts


@dataclass(frozen=True)
class ReadingPlan:
    """How messages become sets.

    Attributes:
        settings: topics are resolved at the root.
        what_if: the faults to put on top.
        bindings: each modality with its message.
        subset_rate: see `ReplayJob`.
    """

    settings: FusionSettings
    what_if: WhatIf
    bindings: tuple[Binding, ...]
    subset_rate: float | None

    @property
    def topics(self) -> dict[str, str]:
        """The topic of each modality."""
        return self.settings.root_topics()

    @property
    def types(self) -> dict[str, tuple[str, ...]]:
        """The message types that the topic of each modality may have."""
        return {binding.modality.name: binding.recorded for binding in self.bindings}

    @property
    def optional(self) -> Collection[str]:
        """The modalities that the bag may lack, because no set will hold them."""
        disabled = {name for name, stream in self.settings.streams.items() if not stream.enabled}
        return dropped_altogether(self.what_if) | disabled


@dataclass(frozen=True)
class StreamRead:
    """The messages of one modality.

    Attributes:
        recorded: number of usable messages.
        told: number of messages by the bag's metadata or index; 0 where they do not tell.
        damaged: number of messages that are no whole ones.
        unusable: number of other messages that cannot be used, by reason.
        publishers: the least number that the topic had while the bag was recorded.
        in_turn: why the messages look like those of two publishers; empty if they do not.
        lags_ns: the least and the most time from a message's stamp to its receive time; None without stamps.
        longest_silence_ns: the longest time between two messages.
        counts: account of the synchroniser.
    """

    recorded: int
    told: int
    damaged: int
    unusable: Counter[str]
    publishers: int
    in_turn: str
    lags_ns: tuple[int, int] | None
    longest_silence_ns: int
    counts: StreamCounts


@dataclass(frozen=True)
class BagRead:
    """A bag that was read to its end.

    Attributes:
        streams: by modality.
        damage: sentences on what is missing, damaged or cut off.
        foreign: number of messages in channels that hold no ROS 2 messages, by a description of the channel.
        recorded_seconds: length by the metadata; None without metadata.
        begin_ns: receive time of the first message.
        end_ns: newest receive time.
        messages: number of messages.
        sets_by_reason: number of sets by the reason why they went out.
        empty_ticks: ticks without any sample.
        resets: how often time jumped back.
        touched: modalities whose messages a fault delays or takes away.
        without_effect: faults that met neither a message nor an array.
        subset_rate: sets a second whose images are predicted from every subset; 0 for every set.
    """

    streams: dict[str, StreamRead]
    damage: tuple[str, ...]
    foreign: dict[str, int]
    recorded_seconds: float | None
    begin_ns: int
    end_ns: int
    messages: int
    sets_by_reason: dict[str, int]
    empty_ticks: int
    resets: int
    touched: frozenset[str]
    without_effect: tuple[Fault, ...]
    subset_rate: float


def read(path: Path, plan: ReadingPlan) -> Generator[Prepared, None, BagRead]:
    """Yield the sets of a bag in the order in which they go out, and return what was read.

    Raises:
        BagError: not a bag, nothing in it can be read, a topic missing, or no set in it.
        ConfigurationError: a message type of the bag lacks a field that the settings name.
    """
    with open_bag(path, plan.topics, plan.types, optional=plan.optional) as bag:
        return (yield from _sets(bag, plan))


def read_alone(path: Path, plan: ReadingPlan) -> Generator[Prepared, None, BagRead]:
    """Do the same as all that this process has to do."""
    # Messages hold no cycles, but are so many that the search for cycles took a quarter of the time.
    gc.set_threshold(100_000)
    return (yield from read(path, plan))


def _sets(bag: Bag, plan: ReadingPlan) -> Generator[Prepared, None, BagRead]:
    modalities = [binding.modality for binding in plan.bindings]
    synchronizer = plan.settings.synchronizer()
    samples = Samples(bag, plan.bindings)
    with ExitStack() as stack:
        others = {
            fault: stack.enter_context(OtherBag(fault, plan.settings, plan.bindings, modalities)).at
            for fault in plan.what_if.faults
            if fault.kind == "swap"
        }
        faults = Faults(plan.what_if, modalities, others)
        sets = RecordedSets(samples, synchronizer, plan.settings.synchronizer_streams(), faults)
        rate = usual_rate(bag.recorded_seconds) if plan.subset_rate is None else plan.subset_rate
        subset_rate, empty = SubsetRate(rate), True
        for recorded in sets:
            yield prepare(recorded, bag, samples.bindings, faults, subset_rate.takes(recorded.sample_set))
            empty = False
    if empty:
        raise BagError(f"{bag.path}: expected sets, found none: {_fates(synchronizer, samples)}")
    return _bag_read(bag, plan, samples, synchronizer, sets, rate)


def fate(counts: StreamCounts, unusable: Counter[str]) -> str:
    """Return what became of the messages of a stream, in words."""
    dropped = "".join(f", {number} dropped as {reason}" for reason, number in sorted(counts.dropped.items()))
    unused = "".join(f", {number} unusable ({reason})" for reason, number in unusable.most_common())
    return f"{counts.received} received{dropped}{unused}"


def _fates(synchronizer: SetSynchronizer, samples: Samples) -> str:
    counts = synchronizer.counts.items()
    return ", ".join(f"{name}: {fate(count, samples.unusable[name])}" for name, count in counts)


def _bag_read(
    bag: Bag, plan: ReadingPlan, samples: Samples, synchronizer: SetSynchronizer, sets: RecordedSets, rate: float
) -> BagRead:
    return BagRead(
        streams={
            name: StreamRead(
                recorded=sets.recorded[name],
                told=bag.recorded_messages.get(topic, 0),
                damaged=bag.damaged[topic],
                unusable=samples.unusable[name],
                publishers=bag.publishers[name],
                in_turn=samples.turns[name].reason,
                lags_ns=sets.lags_ns.get(name),
                longest_silence_ns=sets.spacings[name].longest_ns,
                counts=synchronizer.counts[name],
            )
            for name, topic in plan.topics.items()
        },
        damage=tuple(bag.damage),
        foreign=bag.foreign,
        recorded_seconds=bag.recorded_seconds,
        begin_ns=bag.begin_ns or 0,
        end_ns=bag.end_ns or 0,
        messages=bag.messages_read,
        sets_by_reason=dict(sorted(synchronizer.sets.items())),
        empty_ticks=synchronizer.empty_ticks,
        resets=synchronizer.resets,
        touched=frozenset(sets.faults.touched),
        without_effect=tuple(sets.faults.without_effect()),
        subset_rate=rate,
    )

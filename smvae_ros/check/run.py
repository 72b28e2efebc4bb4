"""Check what a robot or a bag sends against what a model wants."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from smvae_core import checkpoint as checkpoints
from smvae_core.configuration import load_configuration
from smvae_core.errors import ConfigurationError
from smvae_core.modality import Modality
from smvae_ros.bags.reading import deserialised
from smvae_ros.check.bag import RecordedSource
from smvae_ros.check.draft import CANDIDATES, Draft, Sample
from smvae_ros.check.facts import Feed, Observation, Topic, of_fusion_nodes
from smvae_ros.check.numeric_fields import brings_numbers, numeric_fields
from smvae_ros.check.verdicts import Verdict, judge
from smvae_ros.conversions.accessors import MessageAccessor
from smvae_ros.conversions.cdr import MalformedMessage
from smvae_ros.replay.samples import as_recorded
from smvae_ros.settings import default_settings

ROBOT_SECONDS = 5.0
"""How long a robot is listened to."""
BAG_SECONDS = 60.0
"""How much of a bag is read."""


class Source(Protocol):
    """A robot or a bag."""

    topics: dict[str, Topic]
    notes: list[str]

    def feed(self, wanted: Mapping[str, str], types: Mapping[str, Collection[str]]) -> AbstractContextManager[Feed]:
        """Yield the messages of some topics: topics and allowed message types by modality."""
        ...


@contextmanager
def open_source(bag: Path | None, seconds: float | None) -> Iterator[Source]:
    """Yield a bag, or the running robot if there is none, to be read or listened to for some seconds.

    Raises:
        BagError: the bag cannot be read.
        ConfigurationError: there is no ROS 2 to listen to the robot with.
    """
    if bag is not None:
        yield RecordedSource(bag, seconds or BAG_SECONDS)
        return
    try:
        from smvae_ros.check.robot import listening
    except ImportError as error:
        raise ConfigurationError(
            f"expected a ROS 2 to listen to the robot with, found none ({error}); source its setup file, or name a bag"
        ) from None
    with listening(seconds or ROBOT_SECONDS) as robot:
        yield robot


def wanted_modalities(checkpoint: Path | None, config: Path | None) -> Sequence[Modality]:
    """Return the modalities of a configuration, or of a checkpoint; by default of the shipped one.

    Raises:
        CheckpointError, ConfigurationError: the file cannot be read.
    """
    if config is not None:
        return load_configuration(config).model.modalities
    return checkpoints.read_metadata(checkpoint or checkpoints.default_checkpoint()).model.modalities


def check(source: Source, modalities: Sequence[Modality], changes: Sequence[dict[str, Any]]) -> Verdict:
    """Let the messages of a source through the node's synchroniser, and judge what was seen.

    Raises:
        BagError: the bag cannot be read.
        ConfigurationError: a change that the settings do not take, or a message that cannot bring its modality.
    """
    settings = default_settings(modalities)
    for change in changes:
        settings = settings.changed(change)
    bindings = {binding.modality.name: binding for binding in settings.bindings(modalities)}
    wanted = {
        name: topic
        for name, topic in settings.root_topics().items()
        if settings.streams[name].enabled and _fits(source.topics.get(topic), bindings[name].recorded)
    }
    if not wanted:
        return judge(list(bindings.values()), settings, source.topics, None)
    with source.feed(wanted, {name: bindings[name].recorded for name in wanted}) as feed:
        recorded = {name: as_recorded(bindings[name], source.topics[topic].types[0]) for name, topic in wanted.items()}
        observed = Observation(feed, recorded, settings)
        observed.run()
    return judge(list(bindings.values()), settings, source.topics, observed)


def draft(source: Source) -> Draft:
    """Return the draft of a configuration and of parameters, from the messages of a source.

    Raises:
        BagError: the bag cannot be read.
        ConfigurationError: no topic brings a modality, or no message of such a topic is whole.
    """
    inferred = of_fusion_nodes(source.topics)
    possible = {
        name: topic.types[0] for name, topic in source.topics.items() if name not in inferred and _is_drafted(topic)
    }
    samples: dict[str, Sample] = {}
    stamps: dict[str, MessageAccessor] = {}
    if possible:
        with source.feed({name: name for name in possible}, {name: [kind] for name, kind in possible.items()}) as feed:
            for name, receive_ns, data in feed.messages:
                if name not in samples:
                    try:
                        message = deserialised(data, possible[name], feed.types)
                    except Exception:  # the parser raises anything on bytes that are no message
                        continue
                    fields = () if possible[name] in CANDIDATES else numeric_fields(feed.types, possible[name], message)
                    samples[name] = Sample(message, *fields)
                    stamps[name] = MessageAccessor(feed.types, possible[name], ())
                # Messages arrive in bursts, whatever the sensor's rate.
                with suppress(MalformedMessage):
                    samples[name].spacings.add(stamps[name].stamp_ns(data) or receive_ns)
        if not samples:
            raise ConfigurationError(
                f"expected whole messages to draft modalities from, found none on {', '.join(possible)}"
            )
        unread = [name for name in possible if name not in samples]
        source.notes += [f"{name} is not drafted: no whole message was read" for name in unread]
    return Draft({name: samples[name] for name in possible if name in samples}, source.topics)


def _is_drafted(topic: Topic) -> bool:
    return _fits(topic, CANDIDATES) or (topic.described and len(topic.types) == 1 and brings_numbers(topic.types[0]))


def _fits(topic: Topic | None, types: Collection[str]) -> bool:
    return topic is not None and len(topic.types) == 1 and topic.types[0] in types

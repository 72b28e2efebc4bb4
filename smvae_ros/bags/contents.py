"""The contents of a bag at a glance: its topics, and what is missing or damaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from smvae_ros.bags.message_types import described_types
from smvae_ros.bags.reading import opened_sources, publishers_of


@dataclass(frozen=True)
class RecordedTopic:
    """A topic of a bag.

    Attributes:
        types: the message types that it has; more than one is a conflict.
        publishers: the least number of publishers that it had while the bag was recorded.
        messages: number of messages.
        described: whether the fields of its types are known.
    """

    types: tuple[str, ...]
    publishers: int
    messages: int
    described: bool


@dataclass(frozen=True)
class Contents:
    """The contents of a bag.

    Attributes:
        topics: by name.
        damage: sentences on what is missing, damaged or cut off, as far as it is seen without reading the messages.
        foreign: number of messages in channels that hold no ROS 2 messages, by a description of the channel.
    """

    topics: dict[str, RecordedTopic]
    damage: tuple[str, ...]
    foreign: dict[str, int]


def contents_of(path: Path) -> Contents:
    """Return the contents of a bag.

    Raises:
        BagError: not a bag, or nothing can be read.
    """
    with opened_sources(path) as sources:
        connections = [connection for source in sources.readers for connection in source.reader.connections]
        names = dict.fromkeys(connection.topic for connection in connections)
        known = described_types(connections, set(names)).fielddefs
        topics = {}
        for name in names:
            here = [connection for connection in connections if connection.topic == name]
            types = tuple(sorted({connection.msgtype for connection in here}))
            topics[name] = RecordedTopic(
                types=types,
                publishers=publishers_of(connections, name),
                messages=sum(connection.msgcount for connection in here),
                described=all(kind in known for kind in types),
            )
        return Contents(topics, tuple(sources.damage), dict(sources.foreign))


def left_out(foreign: Mapping[str, int]) -> list[str]:
    """Return a sentence on each channel that holds no ROS 2 messages."""
    return [
        f"{channel} was left out, since it holds no ROS 2 messages ({count:,} messages)"
        for channel, count in foreign.items()
    ]

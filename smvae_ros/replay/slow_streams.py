"""Streams that are slower than their timeout, so that they would count as dead between two messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from smvae_ros.bags.reading import Bag
from smvae_ros.replay.spacings import LONGEST_GAP, Spacings
from smvae_ros.settings import FusionSettings


def slow_timeouts(bag: Bag, topics: Mapping[str, str], settings: FusionSettings) -> dict[str, float]:
    """Return a timeout of five times the usual spacing for each modality that comes more rarely than its timeout.

    Only topics with few messages for the length of the bag are looked at, so that most bags are read once.

    Args:
        topics: by modality, fully resolved.
    """
    counts: Counter[str] = Counter()
    for source in bag.sources:
        for connection in source.reader.connections:
            counts[connection.topic] += connection.msgcount
    seconds = sum(source.reader.duration for source in bag.sources) / 1e9
    rare = {
        name: topic
        for name, topic in topics.items()
        if counts[topic] > 2 and seconds / (counts[topic] - 1) > settings.streams[name].timeout
    }
    usual = _usual_spacings(bag, set(rare.values())) if rare else {}
    return {
        name: float(f"{LONGEST_GAP * usual[topic]:.3g}")
        for name, topic in rare.items()
        if usual.get(topic, 0.0) > settings.streams[name].timeout
    }


def _usual_spacings(bag: Bag, topics: set[str]) -> dict[str, float]:
    """Return the usual time between the messages of each topic, in seconds."""
    spacings = {topic: Spacings() for topic in topics}
    for source in bag.sources:
        # Damage is told when the bag is read.
        for connection, receive_ns, _ in source.messages(topics, []):
            spacings[connection.topic].add(receive_ns)
    return {topic: (found.usual_ns() or 0.0) / 1e9 for topic, found in spacings.items()}

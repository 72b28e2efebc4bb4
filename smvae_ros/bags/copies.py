"""Files of a bag that hold the messages of another one once more: copies, also in another storage or compression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from rosbags.rosbag2 import Reader

from smvae_ros.bags.source import Source, files_of


def has_copies(reader: Reader) -> bool:
    """Return whether two of a bag's files may hold the same messages, by their summaries."""
    summaries = [_summary(file) for file in files_of(reader) if file.metadata.message_count]
    return len(set(summaries)) < len(summaries)


def copied(source: Source, others: Sequence[Source]) -> Source | None:
    """Return the one of the others that holds the messages of a source; None if none does."""
    own = None
    for other in others if source.reader.message_count else ():
        if _summary(source.reader.storage) != _summary(other.reader.storage):
            continue
        own = own if own is not None else _messages(source)
        if own == _messages(other):
            return other
    return None


def _summary(file: Any) -> Hashable:
    """Return the times of the first and the last message, and the number of messages by topic."""
    counts: Counter[str] = Counter()
    for connection in file.connections:
        counts[connection.topic] += connection.msgcount
    return file.metadata.start_time, file.metadata.end_time, frozenset(counts.items())


def _messages(source: Source) -> Counter[int]:
    topics = {connection.topic for connection in source.reader.connections}
    return Counter(
        hash((connection.topic, receive_ns, bytes(data) if isinstance(data, memoryview) else data))
        for connection, receive_ns, data in source.messages(topics, [])
    )

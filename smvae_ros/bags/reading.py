"""Bags: the messages of a rosbag2 in the order of their receive times, as far as it can be read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain
from pathlib import Path
from tempfile import gettempdir
from typing import Any, cast

from rosbags.interfaces import Connection, ConnectionExtRosbag2
from rosbags.serde import SerdeError
from rosbags.typesys.store import Typestore
from zstandard import ZstdError

from smvae_core.errors import SMVAEError
from smvae_ros.bags.folder import storage_files
from smvae_ros.bags.message_types import described_types
from smvae_ros.bags.repair import (
    FULL,
    ZSTD_MAGIC,
    Sources,
    is_ros1,
    open_sources,
    unpacked,
)
from smvae_ros.bags.source import Source, reason_of
from smvae_ros.conversions.arrays import stamp_ns

_MOST_UNUSED = 32


class BagError(SMVAEError):
    """A bag that is missing, unreadable or without the topics, or that cannot be written."""


@dataclass
class Bag:
    """An open bag, and what was read of it so far.

    Attributes:
        damage: sentences on what is missing, damaged or cut off; complete once all messages were read.
        recorded_seconds: length by the metadata; None without metadata.
        publishers: by modality, the least number of publishers that its topic had while the bag was recorded.
        foreign: number of messages in channels that hold no ROS 2 messages, by a description of the channel.
        recorded_messages: number of messages by topic, by the metadata or else by the index of the files.
        messages_read: number of messages read so far.
        damaged: number of damaged messages so far, by topic.
        begin_ns: receive time of the first message read.
        end_ns: newest receive time of the messages read.
        types: the message types that the bag describes, and those of ROS 2.
        message_types: by modality that the bag has, the type of its messages.
        sources: the readers of the files.
    """

    path: Path
    damage: list[str]
    recorded_seconds: float | None
    publishers: dict[str, int]
    types: Typestore
    foreign: dict[str, int] = field(default_factory=dict)
    recorded_messages: dict[str, int] = field(default_factory=dict)
    messages_read: int = 0
    damaged: Counter[str] = field(default_factory=Counter)
    begin_ns: int | None = None
    end_ns: int | None = None
    message_types: dict[str, str] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)
    _because: dict[str, str] = field(default_factory=dict)
    _modalities: dict[str, list[str]] = field(default_factory=dict)

    def messages(self) -> Iterator[tuple[str, int, int, Any]]:
        """Yield modality, receive time (ns), stamp in the header (ns; 0 without header or stamp) and message object.

        A damaged message is left out, a damaged file is read up to the damage; `damage` tells of both.

        Raises:
            BagError: not one message can be read.
        """
        for topic, modalities, receive_ns, data in self.serialised():
            try:
                message = deserialised(data, self.message_types[modalities[0]], self.types)
            except Exception as error:  # the parser raises anything on bytes that are no message
                self.note_damage(topic, reason_of(error))
                continue
            stamp = stamp_ns(message)
            for modality in modalities:
                yield modality, receive_ns, stamp, message

    def serialised(self) -> Iterator[tuple[str, list[str], int, bytes]]:
        """Yield topic, its modalities, receive time (ns) and content (CDR) of each message.

        Raises:
            BagError: not one message can be read.
        """
        raw = chain.from_iterable(source.messages(self._modalities, self.damage) for source in self.sources)
        for connection, receive_ns, data in raw:
            topic = connection.topic
            # SQLite keeps anything in any column.
            if not isinstance(receive_ns, int) or not isinstance(data, bytes | memoryview):
                self.messages_read += 1
                self.note_damage(topic, "expected a receive time and bytes, found neither or one of them")
                continue
            if data[:4] == ZSTD_MAGIC:
                # A bag that compresses each message. CDR never begins so.
                try:
                    data = unpacked(data)
                except ZstdError as error:
                    self.note_damage(topic, reason_of(error))
                    continue
            self.messages_read += 1
            self.begin_ns = receive_ns if self.begin_ns is None else self.begin_ns
            self.end_ns = receive_ns if self.end_ns is None else max(receive_ns, self.end_ns)
            yield topic, self._modalities[topic], receive_ns, data
        self.damage += [
            f"{topic}: {count} messages are damaged ({self._because[topic]})"
            for topic, count in sorted(self.damaged.items())
        ]
        if self.messages_read <= sum(self.damaged.values()):
            found = "; ".join(self.damage) or "none"
            raise BagError(f"{self.path}: expected messages on {', '.join(self._modalities)}, found: {found}")

    def note_damage(self, topic: str, reason: str) -> None:
        """Count a message that turned out to be damaged."""
        self.damaged[topic] += 1
        self._because.setdefault(topic, reason)


@contextmanager
def opened_sources(path: Path) -> Iterator[Sources]:
    """Yield the readers of a bag, of which there is at least one.

    Raises:
        BagError: not a bag, or nothing can be read.
    """
    if not path.exists():
        raise BagError(f"{path}: no such bag")
    with ExitStack() as stack:
        try:
            sources = open_sources(path, stack)
        except OSError as error:
            full = f" in {gettempdir()}, to which it is unpacked and which TMPDIR names" if error.errno in FULL else ""
            raise BagError(f"{path}: cannot be read ({error.strerror}{full})") from None
        if not sources.readers:
            raise BagError(
                f"{path}: expected a rosbag2 (a folder with metadata.yaml, .mcap or .db3), found: "
                f"{'; '.join(sources.damage) or 'none of them'}"
            )
        yield sources


@contextmanager
def open_bag(
    path: Path,
    topics: Mapping[str, str],
    types: Mapping[str, Collection[str]] | None = None,
    optional: Collection[str] = (),
) -> Iterator[Bag]:
    """Open a bag for the messages of some topics.

    Reads rosbag2 in SQLite3 and in MCAP, compressed or not, also one that was cut off while it was written. Messages
    of ROS 2's common interfaces are taken to be Jazzy's, which are those of Humble to Kilted; others are read as the
    bag describes them.

    Args:
        path: the bag's folder, or one `.mcap` or `.db3` file, or either with `.zstd`.
        topics: by modality, fully resolved.
        types: by modality, the message types that its topic may have; whichever the bag has is read.
        optional: modalities whose topic may be missing.

    Raises:
        BagError: not a bag, nothing can be read, or a topic that is missing, empty or of another type.
    """
    with opened_sources(path) as sources:
        connections = [connection for source in sources.readers for connection in source.reader.connections]
        store = described_types(connections, set(topics.values()))
        modalities = _found(path, connections, store, topics, types or {}, optional, sources.foreign)
        metadata = sources.metadata
        counts: Counter[str] = Counter()
        for connection in connections:
            counts[connection.topic] += connection.msgcount
        yield Bag(
            path=path,
            damage=sources.damage,
            recorded_seconds=None if metadata is None else metadata.duration_ns / 1e9,
            types=store,
            publishers={name: publishers_of(connections, topic) for name, topic in topics.items()},
            foreign=dict(sources.foreign),
            recorded_messages=counts if metadata is None else metadata.messages,
            sources=sources.readers,
            message_types={
                name: connection.msgtype for connection in connections for name in modalities.get(connection.topic, ())
            },
            _modalities=modalities,
        )


def read_bag(
    path: Path, topics: Mapping[str, str], types: Mapping[str, Collection[str]] | None = None
) -> Iterator[tuple[str, int, int, Any]]:
    """Yield the messages of some topics in the order of their receive times: `open_bag` and `Bag.messages` in one."""
    with open_bag(path, topics, types) as bag:
        yield from bag.messages()


def find_bags(path: Path) -> list[Path]:
    """Return the bags in a folder and its subfolders, ordered by name; the path of a bag gives that bag alone.

    A folder is one bag if it holds metadata.yaml, or files that are named after it, since a recorder that was killed
    leaves no metadata. Any other .mcap or .db3 file is a bag of its own. A bag of ROS 1 counts as well, so that opening
    it tells how to convert it.
    """
    if path.name == "metadata.yaml":
        return [path.parent]
    try:
        if not path.is_dir() or is_bag(path):
            return [path]
        files = [*storage_files(path), *filter(is_ros1, sorted(path.glob("*.bag")))]
        folders = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:  # opening it raises the error for the user
        return [path]
    return sorted([*files, *(bag for folder in folders for bag in find_bags(folder))])


def is_bag(folder: Path) -> bool:
    """Return whether a folder is one bag (see `find_bags`); a folder that may not be read is none."""
    of_folder = re.compile(re.escape(folder.resolve().name) + r"(_\d+)?\.(mcap|db3)(\.zstd)?")
    try:
        return folder.is_dir() and (
            (folder / "metadata.yaml").exists() or any(of_folder.fullmatch(f.name) for f in storage_files(folder))
        )
    except OSError:
        return False


def bag_hash(path: Path) -> str:
    """Return the SHA-256 over the names and contents of a bag's files.

    Raises:
        BagError: a file cannot be read.
    """
    digest = sha256()
    try:
        for file in sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]:
            digest.update(file.name.encode() + b"\0")
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
    except OSError as error:
        raise BagError(f"{path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def deserialised(data: bytes, msgtype: str, types: Typestore) -> Any:
    """Return a message as an object; bytes that are no message raise any exception."""
    # rclpy leaves unused bytes behind empty sequences, as in a JointState without efforts; rosbags refuses them.
    for unused in range(0, _MOST_UNUSED, 4):
        try:
            return types.deserialize_cdr(data[: len(data) - unused], msgtype)
        except SerdeError as error:
            if "size mismatch" not in str(error):
                raise
    return types.deserialize_cdr(data, msgtype)


def _found(
    path: Path,
    connections: list[Connection],
    store: Typestore,
    topics: Mapping[str, str],
    types: Mapping[str, Collection[str]],
    optional: Collection[str],
    foreign: Collection[str],
) -> dict[str, list[str]]:
    """Return the modalities of each topic, after a check that the bag has each with messages of the right type."""
    modalities: dict[str, list[str]] = {}
    missing = []
    for modality, topic in topics.items():
        here = [connection for connection in connections if connection.topic == topic]
        if not sum(connection.msgcount for connection in here) and modality not in optional:
            missing.append(topic)
        for connection in here:
            allowed = types.get(modality, (connection.msgtype,))
            if connection.msgtype not in allowed or connection.msgtype not in store.fielddefs:
                known = connection.msgtype in allowed
                expected = (
                    "a type of ROS 2's common interfaces, or one that the bag describes"
                    if known
                    else " or ".join(allowed)
                )
                raise BagError(f"{path}: topic {topic}: expected {expected}, found {connection.msgtype}")
            if connection.digest and connection.digest != store.hash_rihs01(connection.msgtype):
                raise BagError(
                    f"{path}: topic {topic}: expected {connection.msgtype} as it is defined here, "
                    "found another of the name"
                )
        modalities.setdefault(topic, []).append(modality)
    if missing:
        found = ", ".join(sorted([*(f"{c.topic} ({c.msgtype}, {c.msgcount})" for c in connections), *foreign]))
        raise BagError(
            f"{path}: expected messages on {', '.join(missing)}, found {found or 'no topic'}; "
            "name another topic, or leave out a modality that it lacks"
        )
    return modalities


def publishers_of(connections: list[Connection], topic: str) -> int:
    """Return the least number of publishers that a topic had while the bag was recorded."""
    # The recorder notes the offered QoS of each publisher, all of them in every file.
    counts: Counter[int] = Counter()
    for connection in connections:
        if connection.topic == topic:
            offered = len(cast(ConnectionExtRosbag2, connection.ext).offered_qos_profiles)
            counts[id(connection.owner)] += max(1, offered)
    return max(counts.values(), default=0)

"""The files of a bag, ready to be read. A file that is damaged or has no index is copied as far as it can be read.

Channels that hold no ROS 2 messages (JSON, protobuf, ROS 1) are left out and named. The copy is an MCAP file without
compression, in a temporary folder (TMPDIR chooses where).
"""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import zstandard
from mcap.writer import CompressionType, Writer
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.storage_mcap import McapReader

from smvae_ros.bags.copies import copied, has_copies
from smvae_ros.bags.folder import STORAGE, each_once, folder_damage, storage_files, unnamed_files, wrong_metadata
from smvae_ros.bags.mcap_copy import ROS2_SCHEMAS, copy_mcap
from smvae_ros.bags.metadata import BagMetadata, read_metadata
from smvae_ros.bags.source import Source, files_of, reason_of

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""The first bytes of data that is compressed with zstd."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""The error numbers of a full disk or quota."""

_ROS1 = b"#ROSBAG V"


@dataclass
class Sources:
    """The readers of a bag, in order.

    Attributes:
        damage: sentences on what is missing or damaged.
        foreign: number of messages in channels that hold no ROS 2 messages, by a description of the channel.
        metadata: what the recorder says that it wrote; None without (readable) metadata.
    """

    readers: list[Source] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    foreign: Counter[str] = field(default_factory=Counter)
    metadata: BagMetadata | None = None


def open_sources(path: Path, stack: ExitStack) -> Sources:
    """Open the readers of a bag; the stack closes them and removes temporary files.

    Raises:
        OSError: the bag cannot be read, or the temporary folder is full.
    """
    sources = Sources(metadata=read_metadata(path))
    wrong = wrong_metadata(path, sources.metadata)
    try:
        reader = stack.enter_context(Reader(path))
    except Exception as error:  # the parsers raise anything on a damaged or foreign file
        if path.is_dir():
            sources.damage += folder_damage(path, sources.metadata, reason_of(error))
    else:
        wrong = wrong or _not_in_metadata(reader)
        if not (wrong or _needs_repair(reader) or has_copies(reader)):
            sources.readers.append(Source(path.name, reader))
            sources.damage += unnamed_files(path, sources.metadata)
            return sources
    sources.damage += wrong
    files = each_once(storage_files(path)) if path.is_dir() else [path]
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="smvae_bag_")))
    named = sources.metadata.files if sources.metadata is not None else ()
    for number, file in enumerate(files):
        place = folder / str(number)
        place.mkdir()
        foreign: Counter[str] = Counter()
        source, reason = _source(file, place, stack, foreign)
        if source is not None and (first := copied(source, sources.readers)) is not None:
            reason = f"holds the messages of {first.name} once more; they are read once"
            if file.name in named:
                # It counts the messages of both.
                sources.metadata = None
        else:
            sources.foreign += foreign
            if source is not None:
                sources.readers.append(source)
        if reason:
            sources.damage.append(f"{file.name}: {reason}")
    if not files and sources.metadata is None:
        sources.damage.clear()
    return sources


def is_ros1(path: Path) -> bool:
    """Return whether a file is a bag of ROS 1."""
    try:
        with path.open("rb") as file:
            return file.read(len(_ROS1)) == _ROS1
    except OSError:
        return False


def unpacked(data: bytes) -> bytes:
    """Decompress zstd."""
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def _source(file: Path, place: Path, stack: ExitStack, foreign: Counter[str]) -> tuple[Source | None, str | None]:
    """Return a reader of one file, None if nothing in it can be read; and what is wrong with the file, if anything."""
    if is_ros1(file):
        return None, f"is a bag of ROS 1; convert it: rosbags-convert --src {file.name} --dst {file.stem}"
    if not STORAGE.fullmatch(file.name):
        return None, f"expected .mcap or .db3, found '{file.suffix}'"
    if not file.stat().st_size:
        return None, "is empty"
    cut = None
    name = file.name
    if file.suffix == ".zstd":
        file, cut = _decompressed(file, place)
    try:
        reader = stack.enter_context(Reader(file))
        if not _needs_repair(reader):
            return Source(name, reader), cut
    except Exception:  # copying the file below meets the same error and tells of it
        pass
    whole = place / "whole.mcap"
    skipped: Counter[str] = Counter()
    messages, reason = _rewritten(file, whole, skipped)
    foreign.update(skipped)
    if not messages:
        only = f"holds no ROS 2 messages, only {', '.join(skipped)}" if skipped else "holds no messages"
        return None, reason or cut or only
    try:
        return Source(name, stack.enter_context(Reader(whole))), reason or cut
    except Exception as error:  # what describes the channels, as their QoS, may be damaged as well
        return None, f"cannot be read ({reason_of(error)})"


def _needs_repair(reader: Reader) -> bool:
    """Return whether a bag opens and yet rosbags would not read all of it.

    rosbags reads MCAP without an index only if its messages are in order, takes messages of any encoding for ROS 2's,
    leaves out what SQLite still has in a write-ahead log, and notices a cut-off database too late.
    """
    for storage in files_of(reader):
        if isinstance(storage, McapReader):
            encodings = {channel.message_encoding for channel in storage.channels.values()}
            if encodings - {"cdr"} or (not storage.chunks and storage.metadata.message_count):
                return True
        elif _is_cut(storage.path) or (_log_of(storage.path).exists() and _log_of(storage.path).stat().st_size):
            return True
    return False


def _not_in_metadata(reader: Reader) -> list[str]:
    """Return a sentence on each topic with messages of which the metadata has no count, or another type or QoS."""
    told = [(one.topic, one.msgtype, one.ext) for one in reader.connections if one.msgcount]
    lost: Counter[str] = Counter()
    for storage in files_of(reader):
        for one in storage.connections:
            if one.msgcount and (one.topic, one.msgtype, one.ext) not in told:
                lost[one.topic] += one.msgcount
    return [
        f"{topic}: metadata.yaml does not have its {count} messages as the files do; they are read without it"
        for topic, count in lost.items()
    ]


def _is_cut(database: Path) -> bool:
    """Return whether a database has fewer pages than its header says (https://www.sqlite.org/fileformat2.html, 1.3)."""
    with database.open("rb") as file:
        header = file.read(100)
    size, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
    return database.stat().st_size < pages * (65536 if size == 1 else size)


def _log_of(database: Path) -> Path:
    return database.with_name(database.name + "-wal")


def _decompressed(file: Path, place: Path) -> tuple[Path, str | None]:
    out = place / file.stem
    with file.open("rb") as compressed, out.open("wb") as plain:
        try:
            with zstandard.ZstdDecompressor().stream_reader(compressed, read_across_frames=True) as stream:
                shutil.copyfileobj(stream, plain)
        except zstandard.ZstdError as error:
            return out, f"cannot be decompressed to its end ({reason_of(error)})"
    return out, None


def _rewritten(file: Path, whole: Path, foreign: Counter[str]) -> tuple[int, str | None]:
    """Copy the messages of a file as far as it can be read; return their number and what is wrong with the file."""
    messages, damage = 0, list[str]()
    with whole.open("wb") as stream:
        writer = Writer(stream, compression=CompressionType.NONE)
        writer.start(profile="ros2")
        try:
            is_mcap = file.suffix == ".mcap"
            for _ in copy_mcap(file, writer, foreign, damage) if is_mcap else _from_sqlite(file, writer, foreign):
                messages += 1
        except Exception as error:  # the parsers raise anything on a damaged file
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            damage.append(f"is cut off or damaged after {messages} messages ({reason_of(error)})")
        writer.finish()
    return messages, "; ".join(damage) or None


def _from_sqlite(file: Path, writer: Writer, foreign: Counter[str]) -> Iterator[None]:
    uncommitted = _uncommitted(_log_of(file))
    with TemporaryDirectory(prefix="smvae_bag_") as folder, ExitStack() as stack:
        if _log_of(file).exists():
            # SQLite reads a write-ahead log only in a folder that it may write to.
            shutil.copy(_log_of(file), folder)
            file = Path(shutil.copy(file, folder))
            database = stack.enter_context(closing(sqlite3.connect(file)))
        else:
            database = stack.enter_context(
                closing(sqlite3.connect(f"{file.absolute().as_uri()}?immutable=1", uri=True))
            )
        # Otherwise SQLite refuses a file that is shorter than its header says.
        database.execute("PRAGMA writable_schema=ON")
        channels = _channels(database, writer)
        for topic, receive_ns, data in database.execute("SELECT topic_id, timestamp, data FROM messages ORDER BY id"):
            channel = channels.get(topic)
            if channel is None:
                raise ValueError("a message of no topic")
            if isinstance(channel, str):
                foreign[channel] += 1
                continue
            writer.add_message(channel, receive_ns, data, receive_ns)
            yield
        if uncommitted:
            raise ValueError(f"the last {uncommitted} pages of its write-ahead log are cut off or not committed")


def _uncommitted(log: Path) -> int:
    """Return the number of pages of a write-ahead log that SQLite leaves out (fileformat2.html, 4.1 and 4.2)."""
    content = log.read_bytes() if log.exists() else b""
    salts, step = content[16:24], 24 + int.from_bytes(content[8:12], "big")
    lost = 0
    for begin in range(32, len(content), step):
        frame = content[begin : begin + step]
        if frame[8:16] != salts:  # of an earlier turn of the log
            break
        committed = len(frame) == step and frame[4:8] != bytes(4)
        lost = 0 if committed else lost + 1
    return lost


def _channels(database: sqlite3.Connection, writer: Writer) -> dict[int, int | str]:
    """Register a channel for each ROS 2 topic; return them, or a description of a foreign topic, by the topic's id."""
    columns = [column[1] for column in database.execute("PRAGMA table_info(topics)")]
    offered = "offered_qos_profiles" if "offered_qos_profiles" in columns else "''"
    channels: dict[int, int | str] = {}
    definitions = _definitions(database)
    for number, name, msgtype, encoding, qos in database.execute(
        f"SELECT id, name, type, serialization_format, {offered} FROM topics"
    ):
        if encoding != "cdr":
            channels[number] = f"{name} ({encoding})"
            continue
        # Without definitions, as in the bags of Humble, messages are read as ROS 2's own.
        schema = writer.register_schema(msgtype, *definitions.get(msgtype, ("", b"")))
        channels[number] = writer.register_channel(name, encoding, schema, {"offered_qos_profiles": qos})
    return channels


def _definitions(database: sqlite3.Connection) -> dict[str, tuple[str, bytes]]:
    """Return encoding and text of the definitions of message types, by type; those of Humble's bags are not stored."""
    try:
        rows = database.execute("SELECT topic_type, encoding, encoded_message_definition FROM message_definitions")
        return {msgtype: (encoding, text.encode()) for msgtype, encoding, text in rows if encoding in ROS2_SCHEMAS}
    except sqlite3.Error:  # the table does not exist, or is cut off
        return {}

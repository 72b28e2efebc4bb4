"""The files of a bag, ready to be read. A file that is damaged or has no index is copied as far as it can be read.

The copy is an MCAP file without compression, in a temporary folder (TMPDIR chooses where).
"""

from __future__ import annotations

import errno
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
import zstandard
from mcap.records import Channel, Message, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType, Writer
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.storage_mcap import McapReader

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""The first bytes of data that is compressed with zstd."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""The error numbers of a full disk or quota."""

_STORAGE = re.compile(r".*\.(mcap|db3)(\.zstd)?")


@dataclass(frozen=True)
class Source:
    """A reader of one file or of all files of a bag, and its name for messages."""

    name: str
    reader: Reader


def sources(path: Path, stack: ExitStack) -> tuple[list[Source], list[str], int | None]:
    """Open the readers of a bag, in order; the stack closes them and removes temporary files.

    Returns:
        The readers; sentences on what is missing or damaged; and the bag's length in ns by its metadata, or None.
    """
    damage = []
    try:
        reader = stack.enter_context(Reader(path))
    except Exception as error:  # the parsers raise anything on a damaged file
        if path.is_dir() and not (path / "metadata.yaml").exists():
            damage.append("metadata.yaml is missing: the recorder did not come to its end")
        elif path.is_dir():
            damage.append(reason_of(error))
    else:
        if not _needs_repair(reader):
            return [Source(path.name, reader)], [], _recorded_ns(path)
    files = storage_files(path) if path.is_dir() else [path]
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="smvae_bag_")))
    found = []
    for number, file in enumerate(files):
        place = folder / str(number)
        place.mkdir()
        source, reason = _source(file, place, stack)
        if source is not None:
            found.append(source)
        if reason:
            damage.append(f"{file.name}: {reason}")
    return found, damage if files else [], _recorded_ns(path)


def storage_files(folder: Path) -> list[Path]:
    """Return the .mcap and .db3 files of a folder, `bag_10` after `bag_9`."""
    files = [file for file in folder.iterdir() if file.is_file() and _STORAGE.fullmatch(file.name)]
    return sorted(
        files,
        key=lambda file: [
            (part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", file.name)
        ],
    )


def unpacked(data: bytes) -> bytes:
    """Decompress zstd."""
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def reason_of(error: Exception) -> str:
    """Return the text of an error on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _source(file: Path, place: Path, stack: ExitStack) -> tuple[Source | None, str | None]:
    """Return a reader of one file, None if nothing in it can be read; and what is wrong with the file, if anything."""
    if not _STORAGE.fullmatch(file.name):
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
    messages, reason = _rewritten(file, whole, _from_mcap if file.suffix == ".mcap" else _from_sqlite)
    if not messages:
        return None, reason or cut or "holds no messages"
    return Source(name, stack.enter_context(Reader(whole))), reason or cut


def _needs_repair(reader: Reader) -> bool:
    """Return whether a bag opens and yet rosbags would not read all of it.

    rosbags reads MCAP without an index only if its messages are in order, leaves out what SQLite still has in a
    write-ahead log, and notices a cut-off database too late.
    """
    for storage in getattr(reader.storage, "storages", [reader.storage]):
        if isinstance(storage, McapReader):
            if not storage.chunks and storage.metadata.message_count:
                return True
        elif _is_cut(storage.path) or (_log_of(storage.path).exists() and _log_of(storage.path).stat().st_size):
            return True
    return False


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


def _rewritten(file: Path, whole: Path, copy: Callable[[Path, Writer], Iterator[None]]) -> tuple[int, str | None]:
    """Copy the messages of a file as far as it can be read; return their number and what ended the copy early."""
    messages, reason = 0, None
    with whole.open("wb") as stream:
        writer = Writer(stream, compression=CompressionType.NONE)
        writer.start(profile="ros2")
        try:
            for _ in copy(file, writer):
                messages += 1
        except Exception as error:  # the parsers raise anything on a damaged file
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            reason = f"is cut off or damaged after {messages} messages ({reason_of(error)})"
        writer.finish()
    return messages, reason


def _from_mcap(file: Path, writer: Writer) -> Iterator[None]:
    schemas: dict[int, int] = {0: 0}
    channels: dict[int, int] = {}
    with file.open("rb") as stream:
        for record in StreamReader(stream, validate_crcs=True).records:
            if isinstance(record, Schema) and record.id not in schemas:
                schemas[record.id] = writer.register_schema(record.name, record.encoding, record.data)
            elif isinstance(record, Channel) and record.id not in channels:
                channels[record.id] = writer.register_channel(
                    record.topic, record.message_encoding, schemas[record.schema_id], record.metadata
                )
            elif isinstance(record, Message):
                writer.add_message(
                    channels[record.channel_id], record.log_time, record.data, record.publish_time, record.sequence
                )
                yield


def _from_sqlite(file: Path, writer: Writer) -> Iterator[None]:
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
            writer.add_message(channels[topic], receive_ns, data, receive_ns)
            yield


def _channels(database: sqlite3.Connection, writer: Writer) -> dict[int, int]:
    """Register a channel for each row of the table of topics; return the channels by the row's id."""
    columns = [column[1] for column in database.execute("PRAGMA table_info(topics)")]
    offered = "offered_qos_profiles" if "offered_qos_profiles" in columns else "''"
    channels = {}
    # Without definitions, as in the bags of Humble, messages are read as ROS 2's own.
    for number, name, msgtype, encoding, qos in database.execute(
        f"SELECT id, name, type, serialization_format, {offered} FROM topics"
    ):
        schema = writer.register_schema(msgtype, "", b"")
        channels[number] = writer.register_channel(name, encoding, schema, {"offered_qos_profiles": qos})
    return channels


def _recorded_ns(folder: Path) -> int | None:
    """Return the bag's length by its metadata, None without metadata."""
    try:
        content = yaml.safe_load((folder / "metadata.yaml").read_text())
        return int(content["rosbag2_bagfile_information"]["duration"]["nanoseconds"])
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        return None

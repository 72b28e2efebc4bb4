"""The messages of an MCAP file without a usable index, copied record by record.

A damaged chunk costs its own messages; those behind it are copied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from mcap.reader import make_reader
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import CRCValidationError, StreamReader, breakup_chunk
from mcap.writer import Writer

from smvae_ros.bags.source import reason_of

ROS2_SCHEMAS = ("", "ros2msg", "ros2idl", "omgidl")
"""The encodings in which ROS 2 describes message types."""


def copy_mcap(file: Path, writer: Writer, foreign: Counter[str], damage: list[str]) -> Iterator[None]:
    """Copy the messages of ROS 2, in the order of the file; yield after each.

    Args:
        foreign: gets the number of other messages, by a description of their channel.
        damage: gets sentences on what was left out.

    Raises:
        Exception: the file is cut off, or damaged outside a chunk; the parser raises anything.
    """
    schemas, described = _summary(file)
    target = _Target(writer, schemas)
    unknown = 0
    try:
        with file.open("rb") as stream:
            for record in _records(stream, damage):
                if isinstance(record, Schema):
                    schemas[record.id] = record
                elif isinstance(record, Channel):
                    target.add(record)
                elif isinstance(record, Message):
                    if record.channel_id not in target.channels and record.channel_id in described:
                        target.add(described[record.channel_id])
                    channel = target.channels.get(record.channel_id)
                    if channel is None:
                        unknown += 1
                    elif isinstance(channel, str):
                        foreign[channel] += 1
                    else:
                        writer.add_message(channel, record.log_time, record.data, record.publish_time, record.sequence)
                        yield
    finally:
        if unknown:
            damage.append(f"{unknown} messages are left out, because the description of their topic is damaged")


class _Target:
    """The channels of a copy.

    Attributes:
        channels: by number in the file, the number in the copy, or a description of a channel of another schema.
    """

    def __init__(self, writer: Writer, schemas: Mapping[int, Schema]) -> None:
        self.channels: dict[int, int | str] = {}
        self._writer, self._schemas = writer, schemas
        self._ids: dict[int, int] = {0: 0}

    def add(self, channel: Channel) -> None:
        """Register a channel, once; not if its schema is lost."""
        schema = self._schemas.get(channel.schema_id)
        if channel.id in self.channels or (schema is None and channel.schema_id):
            return
        encoding = schema.encoding if schema is not None else ""
        if channel.message_encoding != "cdr" or encoding not in ROS2_SCHEMAS:
            self.channels[channel.id] = f"{channel.topic} ({encoding or channel.message_encoding})"
            return
        if schema is not None and schema.id not in self._ids:
            # A description that is no text is left out; the common types are known without one.
            text = schema.data.decode(errors="ignore").encode()
            self._ids[schema.id] = self._writer.register_schema(
                schema.name, schema.encoding, text if text == schema.data else b""
            )
        self.channels[channel.id] = self._writer.register_channel(
            channel.topic, channel.message_encoding, self._ids[channel.schema_id], channel.metadata
        )


def _summary(file: Path) -> tuple[dict[int, Schema], dict[int, Channel]]:
    """Return the schemas and channels that stand behind the messages once more; none in a file that is cut off."""
    try:
        with file.open("rb") as stream:
            summary = make_reader(stream).get_summary()
    except Exception:  # the parser raises anything on a damaged file
        return {}, {}
    return (dict(summary.schemas), dict(summary.channels)) if summary is not None else ({}, {})


def _records(stream: BinaryIO, damage: list[str]) -> Iterator[McapRecord]:
    """Yield all records, also those inside chunks, without damaged chunks."""
    chunks = damaged = 0
    reason = ""
    try:
        for record in StreamReader(stream, emit_chunks=True, validate_crcs=True).records:
            if not isinstance(record, Chunk):
                yield record
                continue
            chunks += 1
            try:
                inside = breakup_chunk(record, validate_crc=True)
            except Exception as error:  # the parsers raise anything on a damaged chunk
                damaged += 1
                reason = reason or reason_of(error)
                continue
            yield from inside
    except CRCValidationError:
        if not damaged:  # otherwise this is the sum over all chunks
            raise
    finally:
        if damaged:
            damage.append(f"{damaged} of {chunks} chunks are damaged and left out ({reason})")

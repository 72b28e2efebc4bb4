"""The messages of an MCAP file without a usable index, copied record by record.

A damaged chunk costs its own messages; those behind it are copied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

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
    schemas: dict[int, Schema] = {}
    ids: dict[int, int] = {0: 0}
    channels: dict[int, int | str] = {}
    unknown = 0
    with file.open("rb") as stream:
        for record in _records(stream, damage):
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel) and record.id not in channels:
                schema = schemas.get(record.schema_id)
                encoding = schema.encoding if schema is not None else ""
                if record.message_encoding != "cdr" or encoding not in ROS2_SCHEMAS:
                    channels[record.id] = f"{record.topic} ({encoding or record.message_encoding})"
                    continue
                if schema is not None and schema.id not in ids:
                    # A description that is no text is left out; the common types are known without one.
                    text = schema.data.decode(errors="ignore").encode()
                    ids[schema.id] = writer.register_schema(
                        schema.name, schema.encoding, text if text == schema.data else b""
                    )
                channels[record.id] = writer.register_channel(
                    record.topic, record.message_encoding, ids[record.schema_id], record.metadata
                )
            elif isinstance(record, Message):
                channel = channels.get(record.channel_id)
                if channel is None:
                    unknown += 1
                elif isinstance(channel, str):
                    foreign[channel] += 1
                else:
                    writer.add_message(channel, record.log_time, record.data, record.publish_time, record.sequence)
                    yield
    if unknown:
        damage.append(f"{unknown} messages are left out, because the description of their topic is damaged")


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

"""One file, or all files of a bag, as messages: damage in one place does not take along what can be read behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.storage_mcap import McapReader


@dataclass(frozen=True)
class Source:
    """A reader of one file or of all files of a bag, and its name for messages."""

    name: str
    reader: Reader

    def messages(self, topics: Collection[str], damage: list[str]) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield connection, receive time (ns) and content of each message, file by file.

        A damaged chunk of an MCAP file is left out; another damaged file is read up to the damage. Messages that were
        compressed one by one are yielded so.

        Args:
            damage: gets a sentence on each file that is damaged.
        """
        # Not by the reader of the folder, which ends at the first damaged file and message.
        files = files_of(self.reader)
        for file in files:
            name = PurePath(file.path).name if len(files) > 1 else self.name
            connections = [connection for connection in file.connections if connection.topic in topics]
            yield from _messages(name, file, connections, damage)


def files_of(reader: Reader) -> list[Any]:
    """Return the readers of a bag's single files, with the connections and counts that the files have themselves."""
    files: list[Any] = getattr(reader.storage, "storages", [reader.storage])
    return files


def _messages(
    name: str, file: Any, connections: list[Connection], damage: list[str]
) -> Iterator[tuple[Connection, int, bytes]]:
    chunks = getattr(file, "chunks", [])
    try:
        yielded = 0
        while connections:
            again, messages = yielded, file.messages(connections)
            while True:
                try:
                    item = next(messages, None)
                except Exception as error:  # the parsers raise anything on a damaged file
                    reason = reason_of(error)
                    break
                if item is None:
                    return
                # A chunk that is damaged yielded nothing, so the others begin with the same messages as before.
                if again:
                    again -= 1
                    continue
                yielded += 1
                yield item
            lost = _leave_out_damaged_chunks(file, connections) if isinstance(file, McapReader) else 0
            if not lost:
                damage.append(f"{name}: cannot be read on from here ({reason})")
                return
            damage.append(f"{name}: {lost} of {lost + len(file.chunks)} chunks are damaged and left out ({reason})")
    finally:
        if isinstance(file, McapReader):
            file.chunks = chunks


def _leave_out_damaged_chunks(file: McapReader, connections: Collection[Connection]) -> int:
    """Make a reader leave out its damaged chunks; return their number."""
    chunks, whole = list(file.chunks), []
    for chunk in chunks:
        file.chunks = [chunk]
        try:
            deque(file.messages(connections), maxlen=0)
        except Exception:  # as above
            continue
        whole.append(chunk)
    file.chunks = whole
    # Without any chunk, the reader would read the file as one without an index.
    if not whole:
        file.chunks = chunks
        return 0
    return len(chunks) - len(whole)


def reason_of(error: Exception) -> str:
    """Return the text of an error on one line."""
    text = " ".join(str(error).split())[:300]
    # SQLite raises errors without a text on a database that was cut off.
    return type(error).__name__ if text in ("", "None") else text

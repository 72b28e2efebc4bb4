"""What a process does that builds the cache: read a file, take rows for it, write them.

Imports no torch, so that such processes start at once and stay small.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from smvae_core.data.columns import Chunk, Column, Reader, read_columns
from smvae_core.data.formats.vision_touch import LogError
from smvae_core.modality import Modality


def column_file(folder: Path, column: Column) -> Path:
    """The file of one column of a cache."""
    return folder / f"{column.name}.{np.dtype(column.dtype).name}"


class _Writer(NamedTuple):
    """What a reading process works with; `next_row` is shared by all of them."""

    files: dict[Column, int]
    modalities: tuple[Modality, ...]
    next_row: Any
    read: Reader


_writer: _Writer


def start(folder: Path, table: Sequence[Column], modalities: tuple[Modality, ...], next_row: Any, read: Reader) -> None:
    """Open the columns' files, in this process.

    Args:
        next_row: a shared integer, the first row that nobody has taken.
        read: of the files' format.
    """
    global _writer
    files = {column: os.open(column_file(folder, column), os.O_RDWR | os.O_CREAT, 0o644) for column in table}
    _writer = _Writer(files, modalities, next_row, read)


def stop() -> None:
    """Close what `start` opened."""
    for file in _writer.files.values():
        os.close(file)


def write_rows(item: tuple[Path, frozenset[str]]) -> tuple[Path, Chunk | str]:
    """Read one file, and write its steps to rows of their own; what it is told again, or why it cannot be used.

    Args:
        item: the file, and the modalities that are declared missing.

    Raises:
        OSError: a column cannot be written.
    """
    path, absent = item
    try:
        part = read_columns(path, _writer.modalities, absent, _writer.read)
    except LogError as error:
        return path, str(error)
    with _writer.next_row.get_lock():
        first = _writer.next_row.value
        _writer.next_row.value += part.steps
    for column, file in _writer.files.items():
        # A lacking column stays a hole, which costs no disk and reads as zeros.
        if column.name in part.columns:
            _write_all(file, part.columns[column.name], first * column.row_bytes)
    return path, Chunk(first, part.steps, part.lacking)


def _write_all(file: int, values: np.ndarray, offset: int) -> None:
    # Written, not mapped: a full disk is then an error here instead of a SIGBUS.
    rest = memoryview(np.ascontiguousarray(values)).cast("B")
    while len(rest):
        done = os.pwrite(file, rest, offset)
        rest, offset = rest[done:], offset + done

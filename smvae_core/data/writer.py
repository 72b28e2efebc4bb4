"""The work of a process that builds the cache: read a file, reserve rows of the table, write them.

Imports no torch, so that such processes start at once and stay small.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from smvae_core.data.columns import Chunk, Column, read_columns
from smvae_core.data.formats.protocol import LogError, Reader
from smvae_core.modality import Modality


def column_file(folder: Path, column: Column) -> Path:
    """Return the file of one column of a cache."""
    return folder / f"{column.name}.{np.dtype(column.dtype).name}"


class _Writer(NamedTuple):
    """The state of a reading process. All processes share `next_row`."""

    files: dict[Column, int]
    modalities: tuple[Modality, ...]
    next_row: Any
    read: Reader


_writer: _Writer


def start(folder: Path, table: Sequence[Column], modalities: tuple[Modality, ...], next_row: Any, read: Reader) -> None:
    """Open the files of the columns in this process.

    Args:
        next_row: a shared integer, the first row that no process has reserved.
        read: the reader of the files' format.
    """
    global _writer
    files = {column: os.open(column_file(folder, column), os.O_RDWR | os.O_CREAT, 0o644) for column in table}
    _writer = _Writer(files, modalities, next_row, read)


def stop() -> None:
    """Close the files that `start` opened."""
    for file in _writer.files.values():
        os.close(file)


def write_rows(item: tuple[Path, frozenset[str]]) -> tuple[Path, Chunk | str]:
    """Read one file and write its steps to rows of their own.

    Args:
        item: the file, and the modalities that count as missing.

    Returns:
        The file, and its rows or the reason why it cannot be used.

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
        # Rows of a missing modality stay a hole in the file, which takes no disk space and reads as zeros.
        if column.name in part.columns:
            _write_all(file, part.columns[column.name], first * column.row_bytes)
    return path, Chunk(first, part.steps, part.lacking)


def _write_all(file: int, values: np.ndarray, offset: int) -> None:
    # `pwrite`, not a memory map: a full disk then raises an error instead of SIGBUS.
    rest = np.ascontiguousarray(values).data.cast("B")
    while len(rest):
        done = os.pwrite(file, rest, offset)
        rest, offset = rest[done:], offset + done

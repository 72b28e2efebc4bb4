"""Writer of one Vision&Touch log file: whole or not at all, and the same bytes for the same rows."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

STEPS_PER_FILE = 50

JOINTS = "joints"
"""Attribute of a key that comes from joint states: the names of the joints, in the order of the numbers."""


def write_log(path: Path, rows: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Write steps as one file that holds (len(rows), ...) under each key. Missing folders are made.

    Args:
        rows: one step each, with the same keys.

    Raises:
        OSError: the file cannot be written; nothing is left of it.
    """
    content = _hdf5({key: np.stack([row[key] for row in rows]) for key in rows[0]})
    unfinished = path.with_name(f".{path.name}.unfinished")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _hdf5(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the bytes of an HDF5 file. HDF5 itself crashes when the disk is full, so it writes to memory."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for key, data in arrays.items():
            dataset = file.create_dataset(
                key,
                data=data,
                chunks=(1, *data.shape[1:]) if data.ndim == 4 else data.shape,  # so that single pictures can be read
                compression="gzip",
                compression_opts=1,
                shuffle=True,
                track_times=False,  # times would make the bytes differ from call to call
            )
            # Otherwise HDF5 places the chunks when Python frees the object, which may be later.
            dataset.flush()
    return content.getvalue()

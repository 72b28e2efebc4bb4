"""One Vision&Touch log file, written whole or not at all; the same rows give the same bytes."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

STEPS_PER_FILE = 50


def write_log(path: Path, rows: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Write steps, each a row for every key, as a file with (len(rows), ...) under each key. Folders are made.

    Raises:
        OSError: it cannot be written; nothing is left of it then.
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
    """An HDF5 file, in memory: on a full disk HDF5 itself crashes."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for key, data in arrays.items():
            file.create_dataset(
                key,
                data=data,
                chunks=(1, *data.shape[1:]) if data.ndim == 4 else data.shape,  # single pictures can be read
                compression="gzip",
                compression_opts=1,
                shuffle=True,
                track_times=False,  # or the bytes would differ from run to run
            )
    return content.getvalue()

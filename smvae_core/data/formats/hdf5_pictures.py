"""Pictures and depth in HDF5 that are not stored as the model takes them: JPEG, PNG, channels first, millimetres."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import h5py
import numpy as np

from smvae_core.data.formats.protocol import LogError, Steps

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG")
_SMALLEST = 32
"""Side of the smallest picture that is not taken for a window or a matrix."""


def is_compressed(dataset: h5py.Dataset) -> bool:
    """Return whether each entry is a JPEG or a PNG: bytes, an array of bytes of any length, or a row padded with zeros.

    An unreadable dataset is none; reading it later raises the error.
    """
    try:
        rows_of_bytes = dataset.dtype == np.uint8 and dataset.ndim == 2
        values_of_bytes = dataset.dtype.kind in "SO" and dataset.ndim == 1
        if not (rows_of_bytes or values_of_bytes) or not len(dataset):
            return False
        return _bytes(dataset[0]).startswith(_MAGIC)
    except (OSError, RuntimeError, TypeError, ValueError):
        return False


class Compressed:
    """Compressed pictures, decoded one after the other. They are RGB."""

    def __init__(self, told: Path, key: str, rows: Steps) -> None:
        self._told, self._key, self._rows = told, key, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[np.ndarray]:
        for step, row in enumerate(self._rows):
            content = np.frombuffer(_bytes(row), np.uint8)
            picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
            if picture is None:
                raise LogError(
                    f"{self._told}: key '{self._key}', step {step}: expected a JPEG or PNG, found a damaged one"
                )
            yield picture[..., ::-1]


def is_channels_first(shape: tuple[int, ...]) -> bool:
    """Return whether a step is a picture (3, H, W), or a plane (1, H, W)."""
    return len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) >= _SMALLEST


def is_plane(shape: tuple[int, ...]) -> bool:
    """Return whether a step is grey or depth: (H, W), (H, W, 1) or (1, H, W)."""
    if len(shape) == 3 and 1 not in (shape[0], shape[2]):
        return False
    sides = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape[:2]
    return len(shape) in (2, 3) and min(sides) >= _SMALLEST


def is_millimetres(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Return whether a step is depth in whole millimetres, as depth cameras give it."""
    return is_plane(shape) and dtype == np.uint16


class Converted:
    """Steps that are converted one after the other."""

    def __init__(self, steps: Steps, convert: Callable[[np.ndarray], np.ndarray]) -> None:
        self._steps, self._convert = steps, convert

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self._convert, self._steps)


def as_taken(steps: Steps, shape: tuple[int, ...], dtype: np.dtype) -> Steps:
    """Return steps with channels last and depth in metres."""
    if is_channels_first(shape):
        steps = Converted(steps, _channels_last)
    return Converted(steps, _metres) if is_millimetres(shape, dtype) else steps


def _channels_last(picture: np.ndarray) -> np.ndarray:
    return np.moveaxis(picture, 0, -1)


def _metres(millimetres: np.ndarray) -> np.ndarray:
    return millimetres * np.float32(0.001)


def _bytes(row: object) -> bytes:
    if isinstance(row, bytes):
        return row
    return np.asarray(row, np.uint8).tobytes()

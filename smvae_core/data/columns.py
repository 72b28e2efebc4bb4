"""One file of data as columns: the form in which the cache on disk and the table in memory hold steps.

The stored form is compact and does not depend on the training part: uint8 for RGB and grey, float16 for depth, the
squashed window for force, a vector in its own units. Imports no torch, so that reading processes start at once.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from smvae_core.data.formats.protocol import LogError, Reader
from smvae_core.data.formats.vision_touch import read_log
from smvae_core.image_variants import looked_at, origin
from smvae_core.modality import Modality
from smvae_core.preprocessing import RGB, Grey, PreprocessingError, Vector

# The hyphen keeps labels apart from modalities, whose names have none.
CONTACT, POSE = "label-contact", "label-pose"
_DTYPE: dict[str, type[np.generic]] = {
    "rgb": np.uint8,
    "grey": np.uint8,
    "depth": np.float16,
    "force": np.float32,
    "vector": np.float32,
}


class Column(NamedTuple):
    """The name, the shape of one entry, and the dtype of a column."""

    name: str
    shape: tuple[int, ...]
    dtype: type[np.generic]

    @property
    def row_bytes(self) -> int:
        """Number of bytes of one entry."""
        return int(np.prod(self.shape, dtype=int)) * np.dtype(self.dtype).itemsize


class Part(NamedTuple):
    """The columns of one file, each (steps, *shape). A modality that the file lacks has no column; a label is NaN."""

    steps: int
    columns: dict[str, np.ndarray]
    lacking: frozenset[str]


class Chunk(NamedTuple):
    """The rows of the table that hold the steps of one file, and the modalities that the file lacks."""

    first: int
    steps: int
    lacking: frozenset[str]


def columns(modalities: Sequence[Modality]) -> tuple[Column, ...]:
    """Return the columns of the modalities and of two labels: contact (), 0 or 1; pose (4,), x y z (m), yaw (rad)."""
    stored = [Column(m.name, m.shape, _DTYPE[m.preprocessing.kind]) for m in modalities]
    return (*stored, Column(CONTACT, (), np.float32), Column(POSE, (4,), np.float32))


def read_columns(
    path: Path,
    modalities: Sequence[Modality],
    absent: Collection[str] = (),
    read: Reader = read_log,
) -> Part:
    """Read and preprocess one file.

    Args:
        absent: modalities that count as missing; their keys are not read.
        read: the reader of the file's format.

    Raises:
        LogError: the file is damaged, does not fit a modality, or has the key of no modality.
    """
    sources = {m.name: origin(m.source) for m in modalities if m.name not in absent}
    raw = read(path, list(dict.fromkeys([*sources.values(), "contact", "proprio"])))
    found = [m for m in modalities if sources.get(m.name) in raw]
    if not found:
        raise LogError(f"{path}: expected at least one of the keys {sorted(sources.values())}, found none of them")
    steps = len(raw[sources[found[0].name]])
    stored: dict[str, np.ndarray] = {}
    for m in found:
        stored[m.name] = _stored_steps(path, m, looked_at(m.source, raw[sources[m.name]], m.shape[-1]))
    stored[CONTACT] = np.full(steps, np.nan, np.float32)
    stored[POSE] = np.full((steps, 4), np.nan, np.float32)
    if "contact" in raw:
        touches: np.ndarray = np.any(raw["contact"].reshape(steps, -1), axis=1)
        stored[CONTACT] = touches.astype(np.float32)
    if "proprio" in raw and raw["proprio"].shape[1] >= 4:
        stored[POSE] = raw["proprio"][:, :4].astype(np.float32)
    return Part(steps, stored, frozenset(m.name for m in modalities if m not in found))


def _stored_steps(path: Path, modality: Modality, raw: np.ndarray) -> np.ndarray:
    record = modality.preprocessing
    if isinstance(record, Vector):
        # Offset and scale are measured later, on the training part.
        record = Vector(size=record.size)
    stored_form = record.resized if isinstance(record, (RGB, Grey)) else record.apply
    stored = np.empty((len(raw), *modality.shape), _DTYPE[record.kind])
    try:
        for step, values in enumerate(raw):
            stored[step] = stored_form(values)
    except PreprocessingError as error:
        raise LogError(f"{path}: key '{modality.source}', step {step}: {modality.name}: {error}") from None
    return stored

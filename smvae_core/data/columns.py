"""One log file as columns of stored samples: what the cache on disk, and the table in memory, hold of it.

Stored is what is compact and does not depend on the training part: uint8 for RGB and grey, float16 for depth, the squashed force
window, a vector in its own units. This module imports no torch, so that processes that read logs start at once.
"""

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from smvae_core.data.formats.vision_touch import LogError, read_part
from smvae_core.image_variants import looked_at, origin
from smvae_core.modality import Modality
from smvae_core.preprocessing import RGB, Grey, PreprocessingError, Vector

# With a hyphen, which no modality's name has: a modality may well be called pose.
CONTACT, POSE = "label-contact", "label-pose"
_DTYPE = {"rgb": np.uint8, "grey": np.uint8, "depth": np.float16, "force": np.float32, "vector": np.float32}


class Reader(Protocol):
    """Reads one file: those of the keys `optional` that it has, each (T, ...)."""

    def __call__(self, path: Path, *, optional: Collection[str]) -> dict[str, np.ndarray]:
        """Read.

        Raises:
            LogError: the file is damaged.
        """
        ...


read_log: Reader = partial(read_part, keys=())


class Column(NamedTuple):
    """Name, shape of one entry, and dtype of one column."""

    name: str
    shape: tuple[int, ...]
    dtype: type[np.generic]

    @property
    def row_bytes(self) -> int:
        """Bytes of one entry."""
        return int(np.prod(self.shape, dtype=int)) * np.dtype(self.dtype).itemsize


class Part(NamedTuple):
    """The columns of one file, each (steps, *shape); a modality that it lacks has none, labels are NaN then."""

    steps: int
    columns: dict[str, np.ndarray]
    lacking: frozenset[str]


class Chunk(NamedTuple):
    """Where the steps of one file stand in the table, and which modalities they lack."""

    first: int
    steps: int
    lacking: frozenset[str]


def columns(modalities: Sequence[Modality]) -> tuple[Column, ...]:
    """The modalities, and two labels: contact (), 0 or 1, and pose (4,), x y z in metres and yaw in radians."""
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
        absent: modalities declared missing; their keys are not looked at.
        read: of the file's format.

    Raises:
        LogError: the file is damaged, does not fit a modality, or has the key of none.
    """
    sources = {m.name: origin(m.source) for m in modalities if m.name not in absent}
    raw = read(path, optional=list(dict.fromkeys([*sources.values(), "contact", "proprio"])))
    found = [m for m in modalities if sources.get(m.name) in raw]
    if not found:
        raise LogError(f"{path}: expected at least one of the keys {sorted(sources.values())}, found none of them")
    steps = len(raw[sources[found[0].name]])
    stored = {m.name: _stored_steps(path, m, looked_at(m.source, raw[sources[m.name]], m.shape[-1])) for m in found}
    stored[CONTACT] = np.full(steps, np.nan, np.float32)
    stored[POSE] = np.full((steps, 4), np.nan, np.float32)
    if "contact" in raw:
        stored[CONTACT] = raw["contact"].reshape(steps, -1).any(axis=1).astype(np.float32)
    if "proprio" in raw and raw["proprio"].shape[1] >= 4:
        stored[POSE] = raw["proprio"][:, :4].astype(np.float32)
    return Part(steps, stored, frozenset(m.name for m in modalities if m not in found))


def _stored_steps(path: Path, modality: Modality, raw: np.ndarray) -> np.ndarray:
    record = modality.preprocessing
    if isinstance(record, Vector):
        # Offset and scale are of the training part, which a file cannot know.
        record = Vector(size=record.size)
    stored_form = record.resized if isinstance(record, (RGB, Grey)) else record.apply
    stored = np.empty((len(raw), *modality.shape), _DTYPE[record.kind])
    try:
        for step, values in enumerate(raw):
            stored[step] = stored_form(values)
    except PreprocessingError as error:
        raise LogError(f"{path}: key '{modality.source}', step {step}: {modality.name}: {error}") from None
    return stored

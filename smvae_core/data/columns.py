"""One file of data as columns: the form in which the cache on disk and the table in memory hold steps.

The stored form is compact and does not depend on the training part: uint8 for RGB and grey, float16 for depth, the
squashed window for force, a vector in its own units. Imports no torch, so that reading processes start at once.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from smvae_core.data.formats.protocol import LogError, Reader, Steps
from smvae_core.data.formats.vision_touch import read_log
from smvae_core.image_variants import looked_at, origin
from smvae_core.modality import Modality
from smvae_core.preprocessing import RGB, Grey, PreprocessingError, Vector

# The hyphen keeps labels apart from modalities, whose names have none.
CONTACT, POSE, VALID = "label-contact", "label-pose", "label-valid"
# Entries that are converted to model units together.
_TOGETHER = 256
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
    """Return the columns of the modalities, and what is known of each step.

    These are contact (), 0 or 1; pose (4,), x y z (m), yaw (rad); and the result of `Modality.valid_share` of each
    modality (M,). That of a vector is not used, since its offset and scale may still be open.
    """
    stored = [Column(m.name, m.shape, _DTYPE[m.preprocessing.kind]) for m in modalities]
    labels = (Column(CONTACT, (), np.float32), Column(POSE, (4,), np.float32))
    return (*stored, *labels, Column(VALID, (len(stored),), np.float32))


def read_columns(
    path: Path,
    modalities: Sequence[Modality],
    absent: Collection[str] = (),
    read: Reader = read_log,
) -> Part:
    """Read and preprocess one part.

    Args:
        absent: modalities that count as missing; their keys are not read.
        read: the reader of the file's format.

    Raises:
        LogError: the file is damaged, does not fit a modality, or has the key of no modality.
    """
    wanted = [m for m in modalities if m.name not in absent]
    # A key may itself end like a look: `observation.images.grey` may be a camera.
    keys = dict.fromkeys(key for m in wanted for key in (m.source, origin(m.source)))
    raw = read(path, [*keys, *(label for label in ("contact", "proprio") if label not in keys)], _sizes(wanted))
    by_key: dict[str, list[Modality]] = {}
    for m in wanted:
        key = m.source if m.source in raw else origin(m.source)
        if key in raw:
            by_key.setdefault(key, []).append(m)
    if not by_key:
        expected = sorted({m.source for m in wanted})
        raise LogError(f"{path}: expected at least one of the keys {expected}, found none of them")
    steps = len(raw[next(iter(by_key))])
    stored: dict[str, np.ndarray] = {}
    for key, users in by_key.items():
        stored |= _stored_steps(path, key, users, raw[key])
    stored |= _labels(raw, steps)
    stored[VALID] = np.zeros((steps, len(modalities)), np.float32)
    for column, m in enumerate(modalities):
        if m.name in stored:
            stored[VALID][:, column] = _valid_share(m, stored[m.name])
    return Part(steps, stored, frozenset(m.name for m in modalities if m.name not in stored))


def _sizes(modalities: Sequence[Modality]) -> dict[str, int]:
    """Return the size in which pictures of a key are stored, for keys of which all modalities take the same size."""
    found: dict[str, set[int]] = {}
    for m in modalities:
        if isinstance(m.preprocessing, RGB | Grey):
            for key in {m.source, origin(m.source)}:
                found.setdefault(key, set()).add(m.preprocessing.size)
    return {key: sizes.pop() for key, sizes in found.items() if len(sizes) == 1}


def _stored_steps(path: Path, key: str, modalities: Sequence[Modality], raw: Steps) -> dict[str, np.ndarray]:
    stored = {m.name: np.empty((len(raw), *m.shape), _DTYPE[m.preprocessing.kind]) for m in modalities}
    forms = {m.name: _stored_form(m) for m in modalities}
    for step, values in enumerate(raw):
        for m in modalities:
            try:
                looked = values if m.source == key else looked_at(m.source, values[None], m.shape[-1])[0]
                stored[m.name][step] = forms[m.name](looked)
            except PreprocessingError as error:
                raise LogError(f"{path}: key '{m.source}', step {step}: {m.name}: {error}") from None
    return stored


def _valid_share(modality: Modality, stored: np.ndarray) -> np.ndarray:
    """Return the part of each stored entry that carries information, (steps,)."""
    if modality.preprocessing.kind == "vector":
        return np.ones(len(stored))
    scale = np.float32(1.0 / 255.0 if stored.dtype == np.uint8 else 1.0)
    parts = (stored[begin : begin + _TOGETHER] for begin in range(0, len(stored), _TOGETHER))
    return np.concatenate([np.zeros(0), *(modality.valid_share(part.astype(np.float32) * scale) for part in parts)])


def _stored_form(modality: Modality) -> Callable[[np.ndarray], np.ndarray]:
    record = modality.preprocessing
    if isinstance(record, Vector):
        # Offset and scale are measured later, on the training part.
        return Vector(size=record.size).apply
    return record.resized if isinstance(record, RGB | Grey) else record.apply


def _labels(raw: Mapping[str, Steps], steps: int) -> dict[str, np.ndarray]:
    contact: np.ndarray = np.full(steps, np.nan, np.float32)
    pose: np.ndarray = np.full((steps, 4), np.nan, np.float32)
    if "contact" in raw:
        touches: np.ndarray = np.any(np.asarray(raw["contact"]).reshape(steps, -1), axis=1)
        contact = touches.astype(np.float32)
    if "proprio" in raw:
        proprio = np.asarray(raw["proprio"])
        if proprio.ndim == 2 and proprio.shape[1] >= 4:
            pose = proprio[:, :4].astype(np.float32)
    return {CONTACT: contact, POSE: pose}

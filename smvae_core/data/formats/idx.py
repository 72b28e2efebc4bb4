"""MNIST and Fashion-MNIST: four IDX files, gzipped or not."""

import gzip
import math
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from smvae_core.data.formats.protocol import Format, LogError, Steps, Trajectory

CLASSES = 10
_IMAGES, _LABELS = 0x803, 0x801
_PARTS = {"train": "train", "test": "t10k"}


def find_idx(folder: Path) -> list[Trajectory]:
    """Return the training and the test part as two trajectories of one file of images each.

    Raises:
        LogError: one of the four files is missing.
    """
    files = {part: (_file(folder, f"{p}-images", 3), _file(folder, f"{p}-labels", 1)) for part, p in _PARTS.items()}
    return [Trajectory(part, ((0, images),)) for part, (images, _) in files.items()]


def read_idx(path: Path, keys: Collection[str], sizes: Mapping[str, int]) -> Mapping[str, Steps]:
    """Return those of `keys`: `image` (N, 28, 28), uint8, and `label` (N, 10), float32, one-hot.

    Args:
        path: a file of images; its labels are beside it.

    Raises:
        LogError: a file is damaged, or the labels do not fit the images.
    """
    images = _read(path, _IMAGES)
    beside = label_file(path)
    labels = _read(beside, _LABELS)
    if len(labels) != len(images):
        raise LogError(
            f"{beside}: expected {len(images)} labels, as many as images in {path.name}, found {len(labels)}"
        )
    if labels.max(initial=0) >= CLASSES:
        raise LogError(f"{beside}: expected labels below {CLASSES}, found {labels.max()}")
    found = {"image": images, "label": np.eye(CLASSES, dtype=np.float32)[labels]}
    return {key: value for key, value in found.items() if key in keys}


def label_file(images: Path) -> Path:
    """Return the file of labels beside a file of images.

    Raises:
        LogError: the file of labels is missing.
    """
    return _file(images.parent, f"{images.name.split('-images')[0]}-labels", 1)


def _files(images: Path) -> tuple[Path, ...]:
    return images, label_file(images)


IDX = Format(find_idx, read_idx, _files)


def _file(folder: Path, begin: str, dimensions: int) -> Path:
    names = [f"{begin}{joint}idx{dimensions}-ubyte{suffix}" for joint in ("-", ".") for suffix in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise LogError(f"{folder / names[0]}: no such file, gzipped or not; expected the four IDX files of the data set")


def _read(path: Path, magic: int) -> np.ndarray:
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise LogError(f"{path}: expected a whole gzipped file, found a damaged one ({error})") from None
    dimensions = magic & 0xFF
    head = 4 + 4 * dimensions
    if len(content) < head:
        raise LogError(f"{path}: expected an IDX file, whose head has {head} bytes, found {len(content)} bytes")
    words = np.frombuffer(content, ">u4", count=head // 4)
    if words[0] != magic:
        raise LogError(f"{path}: expected an IDX file that begins with {magic:#010x}, found {words[0]:#010x}")
    shape = tuple(map(int, words[1:]))
    if len(content) - head != math.prod(shape):
        raise LogError(
            f"{path}: expected {' × '.join(map(str, shape))} = {math.prod(shape)} bytes after the head, "
            f"found {len(content) - head}"
        )
    if 0 in shape:
        raise LogError(f"{path}: expected at least one entry, found none")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)

"""Folders of pictures, and CelebA."""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from smvae_core.data.formats.protocol import Format, LogError, Trajectory

# Of CelebA's 40 attributes the MVAE paper keeps these 18, the visually distinctive ones (Perarnau et al. 2016).
ATTRIBUTES = (
    "Bald",
    "Bangs",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Eyeglasses",
    "Gray_Hair",
    "Heavy_Makeup",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Pale_Skin",
    "Receding_Hairline",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Hat",
)
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_ATTRIBUTE_FILE, _PARTITION_FILE = "list_attr_celeba.txt", "list_eval_partition.txt"
# CelebA's test part is the last 19,962 of its 202,599 faces.
_TEST_SHARE = 19_962 / 202_599
_END_OF_JPEG, _SCAN_OF_JPEG = b"\xff\xd9", b"\xff\xda"


def find_pictures(folder: Path) -> list[Trajectory]:
    """Return the pictures that have a mask of the same name in `masks/`, and the others, each in order of their names.

    Raises:
        LogError: the folder does not exist, or has no picture.
    """
    paths = _pictures(folder)
    masks = {path.stem for path in _pictures(folder / "masks")} if (folder / "masks").is_dir() else set()
    parts = {
        "pictures with masks": [path for path in paths if path.stem in masks],
        "pictures": [path for path in paths if path.stem not in masks],
    }
    return [_trajectory(name, of) for name, of in parts.items() if of]


def read_picture(path: Path, keys: Collection[str], sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Return those of `keys`: `image` (1, S, S, 3), the central square, and `mask` (1, S, S, 1) if it exists; uint8.

    Raises:
        LogError: the file is damaged.
    """
    found = {}
    if "image" in keys:
        found["image"] = _decoded(path, cv2.IMREAD_COLOR)[None, ..., ::-1]
    if "mask" in keys and (mask := mask_of(path)) is not None:
        found["mask"] = _decoded(mask, cv2.IMREAD_GRAYSCALE)[None, ..., None]
    return found


def find_faces(folder: Path) -> list[Trajectory]:
    """Return CelebA's training and test part: those of `list_eval_partition.txt`, or without it the last tenth as test.

    Args:
        folder: holds `list_attr_celeba.txt` and the pictures, in itself or in `img_align_celeba/`.

    Raises:
        LogError: a file or folder is missing, the attribute or the partition file is damaged, or a part would be empty.
    """
    attributes = folder / _ATTRIBUTE_FILE
    if not attributes.is_file():
        raise LogError(f"{attributes}: no such file; expected CelebA's attribute file beside its pictures")
    # Checked here, so that its damage is reported once and not for each of 200,000 faces.
    _attributes(attributes, attributes.stat().st_mtime_ns)
    inner = folder / "img_align_celeba"
    paths = _pictures(inner if inner.is_dir() else folder)
    partition = folder / _PARTITION_FILE
    if partition.is_file():
        part = _partition(partition)
        parts = {name: [p for p in paths if part.get(p.name) == code] for name, code in (("train", "0"), ("test", "2"))}
    else:
        first = len(paths) - round(_TEST_SHARE * len(paths))
        parts = {"train": paths[:first], "test": paths[first:]}
    if empty := [name for name, of in parts.items() if not of]:
        raise LogError(f"{folder}: expected faces to train on and to test on, found none for '{empty[0]}'")
    return [_trajectory(name, of) for name, of in parts.items()]


def read_face(path: Path, keys: Collection[str], sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Return what `read_picture` does, and `attributes` (1, 18), float32, 0 or 1.

    Raises:
        LogError: a file is damaged, or the attribute file has no line for the face.
    """
    found = read_picture(path, keys, sizes)
    if "attributes" in keys:
        attributes = attribute_file(path)
        table = _attributes(attributes, attributes.stat().st_mtime_ns)
        if path.name not in table:
            raise LogError(f"{attributes}: expected a line for {path.name}, found none")
        found["attributes"] = np.array([table[path.name]], np.float32)
    return found


def attribute_file(face: Path) -> Path:
    """Return the attribute file of the data set that a face belongs to."""
    folder = face.parent.parent if face.parent.name == "img_align_celeba" else face.parent
    return folder / _ATTRIBUTE_FILE


def mask_of(picture: Path) -> Path | None:
    """Return the file of the same stem in `masks/`, or None. The picture's own suffix is preferred."""
    masks = (picture.parent / "masks" / f"{picture.stem}{s}" for s in (picture.suffix, *sorted(_SUFFIXES)))
    return next((mask for mask in masks if mask.is_file()), None)


def _picture_files(picture: Path) -> tuple[Path, ...]:
    mask = mask_of(picture)
    return (picture,) if mask is None else (picture, mask)


def _face_files(face: Path) -> tuple[Path, ...]:
    return face, attribute_file(face)


PICTURES = Format(find_pictures, read_picture, _picture_files)
CELEBA = Format(find_faces, read_face, _face_files)


# `_changed` is part of the cache's key.
@lru_cache(maxsize=2)
def _attributes(path: Path, _changed: int) -> dict[str, tuple[bool, ...]]:
    # Line 1 is a count, line 2 the names of the attributes, every other line a face with -1 or 1 for each attribute.
    lines = _lines(path)
    names = lines[1].split() if len(lines) > 1 else []
    if missing := [name for name in ATTRIBUTES if name not in names]:
        raise LogError(f"{path}: line 2: expected CelebA's attributes, found none named {', '.join(missing)}")
    columns, table = [names.index(name) for name in ATTRIBUTES], {}
    for number, line in enumerate(lines[2:], start=3):
        if not line.strip():
            continue
        name, *values = line.split()
        if len(values) != len(names) or not set(values) <= {"-1", "1"}:
            raise LogError(
                f"{path}: line {number}: expected a file name and {len(names)} values -1 or 1, found '{line}'"
            )
        table[name] = tuple(values[column] == "1" for column in columns)
    return table


def _partition(path: Path) -> dict[str, str]:
    """Return the code of each file name: 0 for training, 1 for validation, 2 for test."""
    part = {}
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        name, *codes = line.split()
        if len(codes) != 1 or codes[0] not in ("0", "1", "2"):
            raise LogError(f"{path}: line {number}: expected a file name and 0, 1 or 2, found '{line}'")
        part[name] = codes[0]
    return part


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError as error:
        raise LogError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise LogError(f"{path}: expected text, found bytes that are none ({error.reason})") from None


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise LogError(f"{folder}: no such folder; expected one with pictures ({', '.join(sorted(_SUFFIXES))})")
    # macOS leaves a `._` file beside each picture on foreign disks.
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith("."))
    if not paths:
        raise LogError(f"{folder}: expected pictures ({', '.join(sorted(_SUFFIXES))}), found none")
    return paths


def _trajectory(name: str, paths: list[Path]) -> Trajectory:
    return Trajectory(name, tuple(enumerate(paths)))


def _decoded(path: Path, flag: int) -> np.ndarray:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LogError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), flag) if content and _whole(content) else None
    except cv2.error as error:
        # The head asks for more pixels than OpenCV allows.
        raise LogError(f"{path}: expected a picture that OpenCV can decode, found: {error.err}") from None
    if picture is None:
        raise LogError(f"{path}: expected a whole picture, found a damaged file of {len(content)} bytes")
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


def _whole(content: bytes) -> bool:
    """Return whether the file's end is there. Decoders fill what is missing with grey and report nothing."""
    if content.startswith(b"\xff\xd8"):
        return content.rfind(_END_OF_JPEG) > content.rfind(_SCAN_OF_JPEG)
    if content.startswith(b"\x89PNG"):
        return re.search(rb"IEND....", content[-64:], re.DOTALL) is not None
    return True

"""Folders of pictures, and CelebA, as they are on disk."""

import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from smvae_core.data.vision_touch import LogError, Trajectory

# The 18 that the MVAE paper keeps of CelebA's 40, as visually distinctive (Perarnau et al. 2016).
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
# Of CelebA's 202,599 faces the last 19,962 are its test part.
_TEST_SHARE = 19_962 / 202_599
_END_OF_JPEG, _SCAN_OF_JPEG = b"\xff\xd9", b"\xff\xda"


def find_pictures(folder: Path) -> list[Trajectory]:
    """The pictures of a folder, in order of their names: those with a mask of the same name in `masks/`, and the rest.

    Raises:
        LogError: no such folder, or no picture in it.
    """
    paths = _pictures(folder)
    masks = {path.stem for path in _pictures(folder / "masks")} if (folder / "masks").is_dir() else set()
    parts = {
        "pictures with masks": [path for path in paths if path.stem in masks],
        "pictures": [path for path in paths if path.stem not in masks],
    }
    return [_trajectory(name, of) for name, of in parts.items() if of]


def read_picture(path: Path, optional: Collection[str]) -> dict[str, np.ndarray]:
    """Of `optional`: `image` (1, S, S, 3), the central square, and `mask` (1, S, S, 1) where there is one; uint8.

    Raises:
        LogError: a damaged file.
    """
    found = {}
    if "image" in optional:
        found["image"] = _decoded(path, cv2.IMREAD_COLOR)[None, ..., ::-1]
    if "mask" in optional and (mask := _beside(path)) is not None:
        found["mask"] = _decoded(mask, cv2.IMREAD_GRAYSCALE)[None, ..., None]
    return found


def find_faces(folder: Path) -> list[Trajectory]:
    """CelebA's training and test part, after `list_eval_partition.txt` where it is there; else the last tenth is tested.

    Args:
        folder: holds `list_attr_celeba.txt` and the pictures, in itself or in `img_align_celeba/`.

    Raises:
        LogError: a file or folder is missing, or a part would be empty.
    """
    attributes = folder / _ATTRIBUTE_FILE
    if not attributes.is_file():
        raise LogError(f"{attributes}: no such file; expected CelebA's attribute file beside its pictures")
    inner = folder / "img_align_celeba"
    paths = _pictures(inner if inner.is_dir() else folder)
    partition = folder / _PARTITION_FILE
    if partition.is_file():
        part = dict(line.split()[:2] for line in partition.read_text().splitlines() if line.strip())
        parts = {name: [p for p in paths if part.get(p.name) == code] for name, code in (("train", "0"), ("test", "2"))}
    else:
        first = len(paths) - round(_TEST_SHARE * len(paths))
        parts = {"train": paths[:first], "test": paths[first:]}
    if empty := [name for name, of in parts.items() if not of]:
        raise LogError(f"{folder}: expected faces to train on and to test on, found none for '{empty[0]}'")
    return [_trajectory(name, of) for name, of in parts.items()]


def read_face(path: Path, optional: Collection[str]) -> dict[str, np.ndarray]:
    """As `read_picture`, and `attributes` (1, 18), float32, 0 or 1.

    Raises:
        LogError: a damaged file, or a face that the attribute file does not know.
    """
    found = read_picture(path, optional)
    if "attributes" in optional:
        folder = path.parent.parent if path.parent.name == "img_align_celeba" else path.parent
        table = _attributes(folder / _ATTRIBUTE_FILE)
        if path.name not in table:
            raise LogError(f"{folder / _ATTRIBUTE_FILE}: expected a line for {path.name}, found none")
        found["attributes"] = np.array([table[path.name]], np.float32)
    return found


@lru_cache(maxsize=2)
def _attributes(path: Path) -> dict[str, tuple[bool, ...]]:
    # A count, the names of the attributes, then a face a line with -1 or 1 for each.
    lines = path.read_text().splitlines()
    names = lines[1].split() if len(lines) > 1 else []
    if missing := [name for name in ATTRIBUTES if name not in names]:
        raise LogError(f"{path}: line 2: expected CelebA's attributes, found none named {', '.join(missing)}")
    columns, table = [names.index(name) for name in ATTRIBUTES], {}
    for number, line in enumerate(lines[2:], start=3):
        name, *values = line.split() or [""]
        if len(values) != len(names) or not set(values) <= {"-1", "1"}:
            raise LogError(
                f"{path}: line {number}: expected a file name and {len(names)} values -1 or 1, found '{line}'"
            )
        table[name] = tuple(values[column] == "1" for column in columns)
    return table


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise LogError(f"{folder}: no such folder; expected one with pictures ({', '.join(sorted(_SUFFIXES))})")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise LogError(f"{folder}: expected pictures ({', '.join(sorted(_SUFFIXES))}), found none")
    return paths


def _trajectory(name: str, paths: list[Path]) -> Trajectory:
    return Trajectory(name, tuple(enumerate(paths)))


def _beside(path: Path) -> Path | None:
    return next(_same_stem(path), None)


def _same_stem(path: Path) -> Iterator[Path]:
    for suffix in (path.suffix, *sorted(_SUFFIXES)):
        if (mask := path.parent / "masks" / f"{path.stem}{suffix}").is_file():
            yield mask


def _decoded(path: Path, flag: int) -> np.ndarray:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LogError(f"{path}: cannot be read ({error.strerror})") from None
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), flag) if content and _whole(content) else None
    if picture is None:
        raise LogError(f"{path}: expected a whole picture, found a damaged file of {len(content)} bytes")
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


def _whole(content: bytes) -> bool:
    """Whether the end is there, without which the decoders fill up with grey and say nothing."""
    if content.startswith(b"\xff\xd8"):
        return content.rfind(_END_OF_JPEG) > content.rfind(_SCAN_OF_JPEG)
    if content.startswith(b"\x89PNG"):
        return re.search(rb"IEND....", content[-64:], re.DOTALL) is not None
    return True

"""Small data sets in the formats of the large ones."""

import gzip
import struct
from pathlib import Path

import cv2
import numpy as np

from smvae_core.data.formats.pictures import ATTRIBUTES

OTHER_ATTRIBUTES = ("5_o_Clock_Shadow", "Young")


def write_idx(folder: Path, train: int = 40, test: int = 20, zipped: bool = True) -> Path:
    """Images whose bright rows say the label."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        labels = random.integers(0, 10, count).astype(np.uint8)
        images = np.zeros((count, 28, 28), np.uint8)
        for image, label in zip(images, labels):
            image[2 * label : 2 * label + 6] = 200
        for name, content in (
            (f"{part}-images-idx3-ubyte", struct.pack(">4I", 0x803, count, 28, 28) + images.tobytes()),
            (f"{part}-labels-idx1-ubyte", struct.pack(">2I", 0x801, count) + labels.tobytes()),
        ):
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return folder


def write_pictures(folder: Path, count: int = 12, masks: int = 0, size: tuple[int, int] = (80, 64)) -> Path:
    """JPEGs of a disc before a colour; the first `masks` have a mask of the disc."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        picture = np.full((*size, 3), random.integers(0, 120, 3), np.uint8)
        mask = np.zeros(size, np.uint8)
        centre = (size[1] // 2 + int(random.integers(-8, 8)), size[0] // 2)
        cv2.circle(mask, centre, 14, 255, -1)
        picture[mask > 0] = 230
        cv2.imwrite(str(folder / f"{number + 1:06d}.jpg"), picture)
        if number < masks:
            (folder / "masks").mkdir(exist_ok=True)
            cv2.imwrite(str(folder / "masks" / f"{number + 1:06d}.png"), mask)
    return folder


def write_faces(folder: Path, count: int = 30, partition: bool = False) -> Path:
    """CelebA's layout; picture n has attribute (n - 1) % 18 alone."""
    write_pictures(folder / "img_align_celeba", count, size=(218, 178))
    names = [*OTHER_ATTRIBUTES[:1], *ATTRIBUTES, *OTHER_ATTRIBUTES[1:]]
    lines = [str(count), " ".join(names)]
    for number in range(count):
        has = ATTRIBUTES[number % len(ATTRIBUTES)]
        lines.append(f"{number + 1:06d}.jpg " + " ".join(" 1" if name == has else "-1" for name in names))
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    if partition:
        codes = [f"{number + 1:06d}.jpg {number % 3}" for number in range(count)]
        (folder / "list_eval_partition.txt").write_text("\n".join(codes) + "\n")
    return folder

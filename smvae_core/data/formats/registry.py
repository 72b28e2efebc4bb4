"""The formats of data on disk: how the files of a folder are found, and how one is read. Imports no torch."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from smvae_core.data.columns import Reader, read_log
from smvae_core.data.formats.idx import find_idx, label_file, read_idx
from smvae_core.data.formats.pictures import attribute_file, find_faces, find_pictures, mask_of, read_face, read_picture
from smvae_core.data.formats.vision_touch import Trajectory, find_trajectories


class Format(NamedTuple):
    """What a format can do.

    Attributes:
        find: the trajectories of a folder; of data without time a "trajectory" is a part of the data set.
        read: one file.
        beside: another file that reading it looks at, or None: when that changes, the cache reads both again.
    """

    find: Callable[[Path], list[Trajectory]]
    read: Reader
    beside: Callable[[Path], Path | None] = lambda path: None


FORMATS: dict[str, Format] = {
    "logs": Format(find_trajectories, read_log),
    "idx": Format(find_idx, read_idx, label_file),
    "celeba": Format(find_faces, read_face, attribute_file),
    "pictures": Format(find_pictures, read_picture, mask_of),
}

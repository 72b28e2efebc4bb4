"""The formats of data on disk: how the files of a folder are found, and how one is read. Imports no torch."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from smvae_core.data.idx import find_idx, read_idx
from smvae_core.data.parts import Reader, read_log
from smvae_core.data.pictures import find_faces, find_pictures, read_face, read_picture
from smvae_core.data.vision_touch import Trajectory, find_trajectories


class Format(NamedTuple):
    """What a format can do.

    Attributes:
        find: the trajectories of a folder; of data without time a "trajectory" is a part of the data set.
        read: one file.
    """

    find: Callable[[Path], list[Trajectory]]
    read: Reader


FORMATS: dict[str, Format] = {
    "logs": Format(find_trajectories, read_log),
    "idx": Format(find_idx, read_idx),
    "celeba": Format(find_faces, read_face),
    "pictures": Format(find_pictures, read_picture),
}

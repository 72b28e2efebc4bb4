"""ALOHA data sets: one HDF5 file per episode.

Layout (Zhao et al. 2023): `episode_<n>.hdf5` holds `action`, `observations/qpos`, `observations/qvel`,
`observations/images/<camera>` and more, one entry per step. Pictures are uint8 (H, W, 3), or JPEGs padded with zeros to
one length. The action of a step is the command after its observation.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import cv2
import h5py
import numpy as np

from smvae_core.data.formats import hdf5
from smvae_core.data.formats.hdf5_features import described, steps_at
from smvae_core.data.formats.protocol import DataSet, Feature, Format, LogError, Steps, Trajectory

_IMAGES = "observations/images/"


def find_episodes(folder: Path) -> list[Trajectory]:
    """Return the episodes of a folder, or of one file, in order of their numbers.

    Raises:
        LogError: the folder does not exist, or has no HDF5 file.
    """
    paths = hdf5.hdf5_files(folder, "ALOHA episodes")
    nested = folder.is_dir() and any(path.parent != folder for path in paths)
    names = {path: path.relative_to(folder).with_suffix("").as_posix() if nested else path.stem for path in paths}
    return [Trajectory(names[path], ((0, path),)) for path in sorted(paths, key=lambda path: _number(names[path]))]


def read_episode(path: Path, keys: Collection[str], sizes: Mapping[str, int]) -> Mapping[str, Steps]:
    """Return those of `keys` that an episode has; compressed pictures are decoded when they are iterated.

    Raises:
        LogError: the file is damaged.
    """
    with hdf5.opened(path) as file:
        found = hdf5.steps(path, path, file, keys)
        return {key: _Jpegs(path, key, value) if _compressed(file, key) else value for key, value in found.items()}


def describe(folder: Path) -> DataSet:
    """Return what a folder of episodes holds; the features are those of some of them, spread over all.

    Raises:
        LogError: there is none, or one is damaged.
    """
    trajectories = find_episodes(folder)
    paths = [path for trajectory in trajectories for _, path in trajectory.parts]
    features = described(paths, hdf5.opened)
    with hdf5.opened(paths[0]) as file:
        features = [_decoded(paths[0], file, feature) for feature in features]
    steps = 0
    for path in paths:
        with hdf5.opened(path) as file:
            steps += len(hdf5.column(path, file, "action"))
    return DataSet(folder, "aloha", len(trajectories), steps, None, tuple(features))


ALOHA = Format(find_episodes, read_episode, describe=describe)


class _Jpegs:
    """Compressed pictures of one camera, decoded one after the other."""

    def __init__(self, path: Path, key: str, rows: Steps) -> None:
        self._path, self._key, self._rows = path, key, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[np.ndarray]:
        for step, row in enumerate(self._rows):
            picture = cv2.imdecode(row, cv2.IMREAD_COLOR) if row.size else None
            if picture is None:
                raise LogError(
                    f"{self._path}: key '{self._key}', step {step}: expected a JPEG or PNG, found a damaged one"
                )
            yield picture[..., ::-1]


def _compressed(file: h5py.File, key: str) -> bool:
    return key.startswith(_IMAGES) and key in file and file[key].ndim == 2 and file[key].dtype == np.uint8


def _decoded(path: Path, file: h5py.File, feature: Feature) -> Feature:
    if feature.key == "compress_len":
        return Feature(feature.key, feature.shape, feature.dtype, "none", problem="says how long the pictures are")
    # The padded length of compressed pictures may differ from episode to episode.
    if not _compressed(file, feature.key):
        return feature
    pictures = _Jpegs(path, feature.key, steps_at(path, file[feature.key], feature.key)[:1])
    try:
        shape = next(iter(pictures)).shape
    except LogError as error:
        return Feature(feature.key, feature.shape, feature.dtype, "none", problem=str(error))
    return Feature(feature.key, shape, "uint8 (JPEG)", "picture")


def _number(name: str) -> tuple[str, int, str]:
    digits = re.search(r"\d+$", name)
    return (name[: digits.start()], int(digits[0]), name) if digits else (name, -1, name)

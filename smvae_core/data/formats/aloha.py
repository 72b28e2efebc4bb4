"""ALOHA data sets: one HDF5 file per episode.

Layout (Zhao et al. 2023): `episode_<n>.hdf5` holds `action`, `observations/qpos`, `observations/qvel`,
`observations/images/<camera>` and more, one entry per step. Pictures are uint8 (H, W, 3), or JPEGs, as rows padded with
zeros or as bytes. The action of a step is the command after its observation.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from smvae_core.data.formats import hdf5
from smvae_core.data.formats.hdf5_features import described
from smvae_core.data.formats.protocol import DataSet, Feature, Format, Steps, Trajectory


def find_episodes(folder: Path) -> list[Trajectory]:
    """Return the episodes of a folder, or of one file, in order of their numbers.

    Raises:
        LogError: the folder does not exist, or has no HDF5 file.
    """
    paths = hdf5.hdf5_files(folder, "ALOHA episodes")
    names = hdf5.names_of(folder, paths)
    return [Trajectory(names[path], ((0, path),)) for path in sorted(paths, key=lambda path: _number(names[path]))]


def read_episode(path: Path, keys: Collection[str], sizes: Mapping[str, int]) -> Mapping[str, Steps]:
    """Return those of `keys` that an episode has; compressed pictures are decoded when they are iterated.

    Raises:
        LogError: the file is damaged.
    """
    with hdf5.opened(path) as file:
        return hdf5.steps(path, path, file, keys)


def describe(folder: Path) -> DataSet:
    """Return what a folder of episodes holds; the features are those of some of them, spread over all.

    Raises:
        LogError: there is none, or all are damaged.
    """
    trajectories = find_episodes(folder)
    paths = [path for trajectory in trajectories for _, path in trajectory.parts]
    return DataSet(folder, "aloha", len(trajectories), *described(paths, hdf5.opened, _told))


ALOHA = Format(find_episodes, read_episode, describe=describe)


def _told(feature: Feature) -> Feature:
    if feature.key == "compress_len":
        return Feature(feature.key, feature.shape, feature.dtype, "none", problem="says how long the pictures are")
    return feature


def _number(name: str) -> tuple[str, int, str]:
    digits = re.search(r"\d+$", name)
    return (name[: digits.start()], int(digits[0]), name) if digits else (name, -1, name)

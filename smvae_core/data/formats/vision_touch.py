"""Vision&Touch logs, and any other HDF5 files that hold one trajectory each, with any keys.

Layout and keys of Vision&Touch: Lee et al. 2020, as MultiBench redistributes them. A file is
`<date>_<time>_<peg>_0_journal_<trajectory>_<part>_1000.h5`; any other file is a trajectory of one part, which a
configuration describes (`source: observations/qpos`). A file may have any number of steps.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import h5py
import numpy as np

from smvae_core.data.formats import hdf5
from smvae_core.data.formats.hdf5_features import described
from smvae_core.data.formats.protocol import DataSet, Format, LogError, Steps, Trajectory

_FILE_NAME = re.compile(r"^\d+_\d+_(?P<trajectory>.+_\d+)_(?P<part>\d+)_\d+$")

# Shape of one step of Vision&Touch's own keys; None is any size. Other logs may give these keys other shapes.
_SCHEMA: dict[str, tuple[int | None, ...]] = {
    "image": (None, None, 3),
    "depth_data": (None, None, 1),
    "ee_forces_continuous": (None, 6),
    "action": (4,),
    "contact": (None,),
    "proprio": (None,),
}


def find_trajectories(folder: Path) -> list[Trajectory]:
    """Return the trajectories of a folder (or of one file), in natural order of their names.

    Raises:
        LogError: the folder does not exist, or has no HDF5 file.
    """
    paths = hdf5.hdf5_files(folder, "Vision&Touch logs")
    names = hdf5.names_of(folder, paths)
    parts: dict[str, list[tuple[int, Path]]] = {}
    for path in paths:
        name, number = names[path], 0
        if match := _FILE_NAME.match(path.stem):
            name, number = (Path(name).parent / match["trajectory"]).as_posix(), int(match["part"])
        parts.setdefault(name, []).append((number, path))
    return [Trajectory(name, tuple(sorted(parts[name]))) for name in sorted(parts, key=_natural)]


def read_log(path: Path, keys: Collection[str], sizes: Mapping[str, int]) -> Mapping[str, Steps]:
    """Return those of `keys` that the file has, each (T, ...), with the dtype on disk.

    Raises:
        LogError: as `read_part`.
    """
    with hdf5.opened(path) as file:
        found = hdf5.steps(path, path, file, keys)
        if not found and isinstance(file.get("data"), h5py.Group):
            raise LogError(f"{path}: expected a log, found a robomimic file (data/…); set data.format to robomimic")
        return found


def read_part(path: Path, keys: Iterable[str], optional: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Return the named keys of one Vision&Touch file, each (T, ...), with the dtype on disk.

    Args:
        optional: keys that may be missing; the result leaves out those that are.

    Raises:
        LogError: not an HDF5 file, truncated, a missing key, a wrong shape, no step, or keys of different lengths.
            The sentence names the file, the key, what was expected and what was found.
    """
    with hdf5.opened(path) as file:
        wanted = (*keys, *(key for key in optional if key in file))
        columns = {key: _column(path, file, key) for key in wanted}
    hdf5.check_lengths(path, {key: len(column) for key, column in columns.items()})
    return columns


def read_trajectory(trajectory: Trajectory, keys: Iterable[str]) -> dict[str, np.ndarray]:
    """Return all steps of the named keys, joined over the files of a trajectory, each (T, ...).

    Raises:
        LogError: as `read_part`.
    """
    keys = tuple(keys)
    parts = [read_part(path, keys) for _, path in trajectory.parts]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def describe(folder: Path) -> DataSet:
    """Return what a folder of logs holds; the features are those of some of its files, spread over all.

    Raises:
        LogError: it holds no HDF5 file, or all are damaged.
    """
    trajectories = find_trajectories(folder)
    paths = [path for trajectory in trajectories for _, path in trajectory.parts]
    return DataSet(folder, "logs", len(trajectories), *described(paths, hdf5.opened))


VISION_TOUCH = Format(find_trajectories, read_log, describe=describe, following=frozenset({"action"}))


def _column(path: Path, file: h5py.File, key: str) -> np.ndarray:
    dataset = hdf5.column(path, file, key)
    found = dataset.shape[1:]
    wanted = _SCHEMA.get(key, found)
    if len(found) != len(wanted) or any(w not in (None, f) for w, f in zip(wanted, found)):
        shape = ", ".join(["T", *("any" if w is None else str(w) for w in wanted)])
        raise LogError(f"{path}: key '{key}' expected shape ({shape}), found {dataset.shape}")
    if key == "image" and dataset.dtype != np.uint8:
        raise LogError(f"{path}: key 'image' expected uint8, found {dataset.dtype}")
    return hdf5.values(path, dataset, key)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(piece), "") if piece.isdigit() else (0, piece) for piece in re.split(r"(\d+)", name)]

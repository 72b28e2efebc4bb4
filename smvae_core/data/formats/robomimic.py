"""robomimic data sets: HDF5 files that hold many demonstrations each.

Layout (robomimic 0.3): `data/demo_<n>/` holds `actions`, `obs/<key>` and more, one entry per step. Sources are named
from there: `actions`, `obs/agentview_image`. The action of a step is the command after its observation.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py

from smvae_core.data.formats import hdf5
from smvae_core.data.formats.hdf5_features import described
from smvae_core.data.formats.protocol import DataSet, Feature, Format, LogError, Steps, Trajectory

_UNUSED = re.compile(r"^(next_obs/|dones$|rewards$|states$)")


def find_demonstrations(folder: Path) -> list[Trajectory]:
    """Return the demonstrations of the files of a folder, or of one file, as one trajectory each.

    A file that is damaged or has no demonstration is a trajectory of its own; reading it tells what is wrong.

    Raises:
        LogError: there is no HDF5 file, or no demonstration in any.
    """
    paths = hdf5.hdf5_files(folder, "robomimic data")
    names = hdf5.names_of(folder, paths)
    found: list[Trajectory] = []
    bad: list[LogError] = []
    for path in paths:
        try:
            parts = {demo: path / demo for demo in _demonstrations_of(path)}
        except LogError as error:
            bad.append(error)
            found.append(Trajectory(names[path], ((0, path),)))
        else:
            called = {demo: demo if len(paths) == 1 else f"{names[path]}/{demo}" for demo in parts}
            found += [Trajectory(called[demo], ((0, part),)) for demo, part in parts.items()]
    if len(bad) == len(paths):
        raise bad[0]
    return found


def read_demonstration(path: Path, keys: Collection[str], sizes: Mapping[str, int]) -> Mapping[str, Steps]:
    """Return those of `keys` that a demonstration has.

    Args:
        path: the file, with the name of the demonstration behind it; or a file without a whole demonstration.

    Raises:
        LogError: the file is damaged, or has no demonstration.
    """
    with _demonstration(path) as group:
        return hdf5.steps(path, path.parent, group, keys)


def describe(folder: Path) -> DataSet:
    """Return what a folder of demonstrations holds; the features are those of some of them, spread over all.

    Raises:
        LogError: there is none, or all are damaged.
    """
    trajectories = find_demonstrations(folder)
    paths = [path for trajectory in trajectories for _, path in trajectory.parts]
    return DataSet(folder, "robomimic", len(trajectories), *described(paths, _demonstration, _unused, _rate))


def _file_of(path: Path) -> tuple[Path, ...]:
    return (path if path.is_file() else path.parent,)


ROBOMIMIC = Format(find_demonstrations, read_demonstration, _file_of, describe)


def _demonstrations_of(path: Path) -> list[str]:
    """Return the names of the demonstrations of a file.

    Raises:
        LogError: the file is damaged, or has none.
    """
    demos: list[str] = []
    with hdf5.opened(path) as file:
        data = hdf5.member(file, "data")
        # A demonstration that is damaged or only linked counts: reading it tells what is wrong.
        if isinstance(data, h5py.Group):
            demos = [name for name in data if not isinstance(data.get(name), h5py.Dataset)]
    if not demos:
        raise LogError(f"{path}: expected robomimic demonstrations (data/demo_0, …), found none")
    return sorted(demos, key=_number)


@contextmanager
def _demonstration(path: Path) -> Iterator[h5py.Group]:
    if path.is_file():
        _demonstrations_of(path)
        raise LogError(f"{path}: changed while it was read; try again")
    with hdf5.opened(path.parent, path) as file:
        group = hdf5.member(file, f"data/{path.name}")
        if not isinstance(group, h5py.Group):
            raise LogError(f"{path}: expected a demonstration data/{path.name} in {path.parent.name}, found none")
        yield group


def _number(demo: str) -> tuple[int, str]:
    digits = re.search(r"\d+$", demo)
    return (int(digits[0]) if digits else -1, demo)


def _unused(feature: Feature) -> Feature:
    if _UNUSED.match(feature.key):
        return Feature(feature.key, feature.shape, feature.dtype, "none", problem="is no observation and no command")
    return feature


def _rate(demonstration: h5py.Group) -> float | None:
    try:
        return float(json.loads(demonstration.parent.attrs["env_args"])["env_kwargs"]["control_freq"])
    except (KeyError, TypeError, ValueError):
        return None

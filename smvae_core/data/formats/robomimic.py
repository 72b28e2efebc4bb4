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
from smvae_core.data.formats.hdf5_features import count_steps, described
from smvae_core.data.formats.protocol import DataSet, Feature, Format, LogError, Steps, Trajectory

_UNUSED = re.compile(r"^(next_obs/|dones$|rewards$|states$)")


def find_demonstrations(folder: Path) -> list[Trajectory]:
    """Return the demonstrations of the files of a folder, or of one file, as one trajectory each.

    Raises:
        LogError: there is no HDF5 file, or one that holds no demonstration.
    """
    paths = hdf5.hdf5_files(folder, "robomimic data")
    found = []
    for path in paths:
        with hdf5.opened(path) as file:
            data = file.get("data")
            demos = [name for name, item in data.items() if isinstance(item, h5py.Group)] if _is_group(data) else []
        if not demos:
            raise LogError(f"{path}: expected robomimic demonstrations (data/demo_0, …), found none")
        for demo in sorted(demos, key=_number):
            name = demo if len(paths) == 1 else f"{path.stem}/{demo}"
            found.append(Trajectory(name, ((0, path / demo),)))
    return found


def read_demonstration(path: Path, keys: Collection[str], sizes: Mapping[str, int]) -> Mapping[str, Steps]:
    """Return those of `keys` that a demonstration has.

    Args:
        path: the file, with the name of the demonstration behind it.

    Raises:
        LogError: the file is damaged.
    """
    with _demonstration(path) as group:
        return hdf5.steps(path, path.parent, group, keys)


def describe(folder: Path) -> DataSet:
    """Return what a folder of demonstrations holds; the features are those of some of them, spread over all.

    Raises:
        LogError: there is none, a file is damaged, or all demonstrations are.
    """
    trajectories = find_demonstrations(folder)
    paths = [path for trajectory in trajectories for _, path in trajectory.parts]
    found = described(paths, _demonstration, _unused)
    with _demonstration(paths[0]) as group:
        rate = _rate(group.parent)
    steps = count_steps(paths, _demonstration, _length)
    return DataSet(folder, "robomimic", len(trajectories), steps, rate, *found)


def _file_of(path: Path) -> tuple[Path, ...]:
    return (path.parent,)


ROBOMIMIC = Format(find_demonstrations, read_demonstration, _file_of, describe)


@contextmanager
def _demonstration(path: Path) -> Iterator[h5py.Group]:
    with hdf5.opened(path.parent) as file:
        group = file.get(f"data/{path.name}")
        if not _is_group(group):
            raise LogError(f"{path}: expected a demonstration data/{path.name} in {path.parent.name}, found none")
        yield group


def _length(group: h5py.Group) -> int:
    return max((len(group[key]) for key in hdf5.names(group) if group[key].shape), default=0)


def _is_group(item: object) -> bool:
    return isinstance(item, h5py.Group)


def _number(demo: str) -> tuple[int, str]:
    digits = re.search(r"\d+$", demo)
    return (int(digits[0]) if digits else -1, demo)


def _unused(feature: Feature) -> Feature:
    if _UNUSED.match(feature.key):
        return Feature(feature.key, feature.shape, feature.dtype, "none", problem="is no observation and no command")
    return feature


def _rate(data: h5py.Group) -> float | None:
    try:
        return float(json.loads(data.attrs["env_args"])["env_kwargs"]["control_freq"])
    except (KeyError, TypeError, ValueError):
        return None

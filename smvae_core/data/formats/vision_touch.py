"""Vision&Touch logs: HDF5 files, several of them a trajectory.

Layout and keys: Lee et al. 2020, as MultiBench redistributes them. A file is
`<date>_<time>_<peg>_0_journal_<trajectory>_<part>_1000.h5`; any other `.h5` file is a trajectory of one part.
A file may have any number of steps.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from smvae_core.data.formats.protocol import Format, LogError, Trajectory

_FILE_NAME = re.compile(r"^\d+_\d+_(?P<trajectory>.+_\d+)_(?P<part>\d+)_\d+$")

# Shape of one step; None is any size.
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
        LogError: the folder does not exist, or has no `.h5` file.
    """
    if not folder.exists():
        raise LogError(f"{folder}: no such file or folder; expected Vision&Touch logs (.h5)")
    paths = [folder] if folder.is_file() else sorted(folder.glob("*.h5"))
    if not paths:
        raise LogError(f"{folder}: expected Vision&Touch logs (.h5), found none")
    parts: dict[str, list[tuple[int, Path]]] = {}
    for path in paths:
        match = _FILE_NAME.match(path.stem)
        name, number = (match["trajectory"], int(match["part"])) if match else (path.stem, 0)
        parts.setdefault(name, []).append((number, path))
    return [Trajectory(name, tuple(sorted(parts[name]))) for name in sorted(parts, key=_natural)]


def read_log(path: Path, keys: Collection[str]) -> dict[str, np.ndarray]:
    """Return those of `keys` that the file has, each (T, ...), with the dtype on disk.

    Raises:
        LogError: as `read_part`.
    """
    return read_part(path, keys=(), optional=keys)


def read_part(path: Path, keys: Iterable[str], optional: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Return the named keys of one file, each (T, ...), with the dtype on disk.

    Args:
        optional: keys that may be missing; the result leaves out those that are.

    Raises:
        LogError: not an HDF5 file, truncated, a missing key, a wrong shape, no step, or keys of different lengths.
            The sentence names the file, the key, what was expected and what was found.
    """
    with _opened(path) as file:
        columns = {key: _column(path, file, key) for key in (*keys, *(key for key in optional if key in file))}
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise LogError(f"{path}: expected keys of one length, found {lengths}")
    if 0 in lengths.values():
        raise LogError(f"{path}: expected at least one step, found none")
    return columns


def read_trajectory(trajectory: Trajectory, keys: Iterable[str]) -> dict[str, np.ndarray]:
    """Return all steps of the named keys, joined over the files of a trajectory, each (T, ...).

    Raises:
        LogError: as `read_part`.
    """
    keys = tuple(keys)
    parts = [read_part(path, keys) for _, path in trajectory.parts]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


VISION_TOUCH = Format(find_trajectories, read_log)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r")
    except (OSError, RuntimeError) as error:
        raise LogError(f"{path}: expected a whole HDF5 file, found one that cannot be opened ({error})") from None
    with file:
        yield file


def _column(path: Path, file: h5py.File, key: str) -> np.ndarray:
    dataset = file.get(key)
    if not isinstance(dataset, h5py.Dataset):
        raise LogError(f"{path}: expected key '{key}', found {sorted(file)}")
    wanted = _SCHEMA.get(key, dataset.shape[1:])
    found = dataset.shape[1:]
    if len(found) != len(wanted) or any(w not in (None, f) for w, f in zip(wanted, found)):
        shape = ", ".join(["T", *("any" if w is None else str(w) for w in wanted)])
        raise LogError(f"{path}: key '{key}' expected shape ({shape}), found {dataset.shape}")
    if key == "image" and dataset.dtype != np.uint8:
        raise LogError(f"{path}: key 'image' expected uint8, found {dataset.dtype}")
    if dataset.dtype.kind not in "fiub":
        raise LogError(f"{path}: key '{key}' expected numbers, found {dataset.dtype}")
    try:
        return np.asarray(dataset[()])
    except (OSError, RuntimeError) as error:
        raise LogError(f"{path}: key '{key}' cannot be read, the file is damaged ({error})") from None


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(piece), "") if piece.isdigit() else (0, piece) for piece in re.split(r"(\d+)", name)]

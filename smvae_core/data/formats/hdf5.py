"""HDF5 as the formats here use it: steps of a key, in blocks, with every failure as one sentence."""

import importlib.util
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from smvae_core.data.formats.hdf5_pictures import Compressed, as_taken, is_compressed
from smvae_core.data.formats.protocol import LogError, Steps
from smvae_core.files import files_below

SUFFIXES = (".h5", ".hdf5")
_BAGS = (".mcap", ".db3", ".bag")
# Pictures of full size are read in blocks, so that a long episode does not fill the memory.
_BLOCK_BYTES = 64 << 20


@contextmanager
def opened(path: Path, told: Path | None = None) -> Iterator[h5py.File]:
    """Open a file for reading.

    Args:
        told: the path that errors name; by default that of the file.

    Raises:
        LogError: it is not a whole HDF5 file, or h5py finds it damaged while it is open.
    """
    told = told or path
    try:
        file = h5py.File(path, "r")
    except (OSError, RuntimeError) as error:
        if "unable to lock file" in str(error):
            raise LogError(f"{told}: another program writes this file; read it when that has closed it") from None
        raise LogError(f"{told}: expected a whole HDF5 file, found one that cannot be opened ({error})") from None
    with file:
        try:
            yield file
        except (OSError, RuntimeError, KeyError) as error:  # what h5py raises for damage inside
            reason = error.args[0] if error.args else error
            raise LogError(f"{told}: expected a whole HDF5 file, found a damaged one ({reason})") from None


def hdf5_files(folder: Path, expected: str) -> list[Path]:
    """Return the HDF5 files of a folder and its subfolders.

    Args:
        expected: the data that are expected there, for the error.

    Raises:
        LogError: the folder does not exist, cannot be read, or has no HDF5 file.
    """
    if not folder.exists():
        raise LogError(f"{folder}: no such file or folder; expected {expected} ({', '.join(SUFFIXES)})")
    if folder.is_file():
        return [folder]
    every = files(folder)
    paths = [path for path in every if is_hdf5(path)]
    if not paths:
        bag = next((path.relative_to(folder) for path in every if path.suffix in _BAGS), None)
        found = f"bags ({bag}); turn them into logs with smvae log" if bag else "none"
        raise LogError(f"{folder}: expected {expected} ({', '.join(SUFFIXES)}), found {found}")
    return paths


def files(folder: Path) -> list[Path]:
    """Return all files of a folder and its subfolders (see `files_below`).

    Raises:
        LogError: a folder cannot be read.
    """
    try:
        return files_below(folder)
    except OSError as error:
        raise LogError(f"{error.filename}: cannot be read ({error.strerror})") from None


def is_hdf5(path: Path) -> bool:
    """Return whether a file is named as HDF5."""
    return path.suffix.lower() in SUFFIXES


def names_of(folder: Path, paths: Collection[Path]) -> dict[Path, str]:
    """Return a name for each file of a folder: its path there without suffix, or with it where two would be alike."""
    inside = {path: path.relative_to(folder) if folder.is_dir() else Path(path.name) for path in paths}
    plain = Counter(path.with_suffix("") for path in inside.values())
    return {
        path: (place.with_suffix("") if plain[place.with_suffix("")] == 1 else place).as_posix()
        for path, place in inside.items()
    }


def member(group: h5py.Group, key: str) -> h5py.Group | h5py.Dataset | None:
    """Return what stands at a key, with slashes; None where there is nothing, or a link that leads nowhere.

    Raises:
        KeyError: what stands there is damaged.
    """
    item: h5py.Group | h5py.Dataset | None = group
    for piece in filter(None, key.split("/")):
        if not isinstance(item, h5py.Group) or not item.id.links.exists(piece.encode()):
            return None
        is_link = item.id.links.get_info(piece.encode()).type != h5py.h5l.TYPE_HARD
        item = item.get(piece) if is_link else item[piece]
    return item


def column(told: Path, group: h5py.Group, key: str) -> h5py.Dataset:
    """Return the dataset of a key, after checking that it holds steps of numbers that can be read.

    Args:
        told: the path that errors name.

    Raises:
        LogError: it does not, or is compressed with a filter that is not installed.
    """
    dataset = member(group, key)
    if not isinstance(dataset, h5py.Dataset):
        raise LogError(f"{told}: expected key '{key}', found {names(group)}")
    _check_filters(told, dataset, key)
    if (found := type_of(dataset)) is None or found.kind not in "fiub":
        raise LogError(f"{told}: key '{key}' expected numbers, found {_named(found)}")
    if dataset.ndim == 0:
        raise LogError(f"{told}: key '{key}' expected one entry per step, found a single value")
    return dataset


def type_of(dataset: h5py.Dataset) -> np.dtype | None:
    """Return the type of the numbers; None for a type of HDF5 that NumPy does not have, such as time."""
    try:
        found: np.dtype = np.dtype(dataset.dtype)
        return found
    except TypeError:
        return None


def _named(found: np.dtype | None) -> str:
    if found is None:
        return "a type that NumPy does not have"
    return "text" if h5py.check_string_dtype(found) else str(found)


def names(group: h5py.Group) -> list[str]:
    """Return the keys of all datasets, at any depth, with slashes; also those that links lead to."""
    return sorted(key for key, item in items(group) if item is not None)


def items(
    group: h5py.Group, above: str = "", within: tuple[object, ...] = ()
) -> Iterator[tuple[str, h5py.Dataset | None]]:
    """Yield key and dataset at any depth; None for a link that leads nowhere."""
    for name in group:
        item = member(group, name)
        if isinstance(item, h5py.Group):
            place = h5py.h5o.get_info(item.id)
            here = (place.fileno, place.addr)
            if here not in within:  # a link to a group above
                yield from items(item, f"{above}{name}/", (*within, here))
        elif item is None or isinstance(item, h5py.Dataset):
            yield f"{above}{name}", item


def values(told: Path, dataset: h5py.Dataset, key: str) -> np.ndarray:
    """Return the content of a dataset.

    Raises:
        LogError: the file is damaged.
    """
    try:
        return np.asarray(dataset[()])
    except (OSError, RuntimeError) as error:
        raise LogError(f"{told}: key '{key}' cannot be read, the file is damaged ({error})") from None


class Frames:
    """The steps of a large dataset, read block by block while they are iterated."""

    def __init__(self, told: Path, file: Path, key: str, length: int, step_bytes: int) -> None:
        self._told, self._file, self._key, self._length = told, file, key, length
        self._block = max(1, _BLOCK_BYTES // max(step_bytes, 1))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[np.ndarray]:
        for first in range(0, self._length, self._block):
            with opened(self._file) as file:
                try:
                    block = file[self._key][first : first + self._block]
                except (OSError, RuntimeError) as error:
                    raise LogError(
                        f"{self._told}: key '{self._key}' cannot be read, the file is damaged ({error})"
                    ) from None
            yield from block


def steps(told: Path, path: Path, group: h5py.Group, keys: Collection[str]) -> dict[str, Steps]:
    """Return those of `keys` that a group of the file `path` has; large ones are read when they are iterated.

    A key with one number per step, (T,), is returned as (T, 1). Compressed pictures, pictures with channels first and
    depth in millimetres are converted when they are iterated.

    Raises:
        LogError: a key holds no steps of numbers, there is no step, or keys differ in length.
    """
    found: dict[str, Steps] = {}
    for key in keys:
        if isinstance(dataset := member(group, key), h5py.Dataset):
            if is_compressed(dataset):
                found[key] = Compressed(told, key, values(told, dataset, key))
                continue
            dataset = column(told, group, key)
            step_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:], dtype=int))
            if dataset.ndim >= 3 and step_bytes * len(dataset) > _BLOCK_BYTES:
                found[key] = Frames(told, path, dataset.name, len(dataset), step_bytes)
            else:
                content = values(told, dataset, key)
                found[key] = content if content.ndim > 1 else content[:, None]
            found[key] = as_taken(found[key], dataset.shape[1:], dataset.dtype)
    check_lengths(told, {key: len(value) for key, value in found.items()})
    return found


def check_lengths(told: Path, lengths: dict[str, int]) -> None:
    """Raise the LogError for keys of different lengths, or without a step."""
    if len(set(lengths.values())) > 1:
        raise LogError(f"{told}: expected keys of one length, found {lengths}")
    if 0 in lengths.values():
        raise LogError(f"{told}: expected at least one step, found none")


def _check_filters(told: Path, dataset: h5py.Dataset, key: str) -> None:
    creation = dataset.id.get_create_plist()
    for index in range(creation.get_nfilters()):
        code, _, _, name = creation.get_filter(index)
        if not _available(code):
            called = f"{code} ({name.decode(errors='replace')})" if name else str(code)
            raise LogError(
                f"{told}: key '{key}' is compressed with HDF5 filter {called}, which is not installed; "
                "pip install hdf5plugin, or write the file with gzip"
            )


def _available(code: int) -> bool:
    # hdf5plugin registers its filters when it is imported.
    if not h5py.h5z.filter_avail(code) and importlib.util.find_spec("hdf5plugin"):
        importlib.import_module("hdf5plugin")
    return bool(h5py.h5z.filter_avail(code))

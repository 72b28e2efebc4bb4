"""The features of HDF5 episodes: their shape, type and range, and what a model can make of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from smvae_core.data.formats import hdf5
from smvae_core.data.formats.hdf5_pictures import Compressed, is_channels_first, is_compressed, is_millimetres
from smvae_core.data.formats.protocol import Feature, LogError

# So many episodes, spread over all, are looked at, and so many steps of each, fewer of pictures.
_EPISODES, _STEPS, _PICTURES = 20, 512, 4


class _Seen(NamedTuple):
    """One key in one episode; `low` and `high` are those of each number of a step, if there is no problem."""

    shape: tuple[int, ...]
    dtype: str
    kind: str
    problem: str = ""
    low: np.ndarray = np.zeros(0)
    high: np.ndarray = np.zeros(0)


def described(parts: Sequence[Path], opened: Callable[[Path], AbstractContextManager[h5py.Group]]) -> list[Feature]:
    """Return the features of a data set, by some of its episodes: all keys of these, each with its range.

    A feature has a problem if no episode can bring it.

    Args:
        parts: the path of each episode.
        opened: opens the group that holds an episode.

    Raises:
        LogError: an episode is damaged.
    """
    seen: dict[str, list[_Seen]] = {}
    for path in parts[:: max(1, -(-len(parts) // _EPISODES))]:
        with opened(path) as group:
            for key, one in _of_episode(path, group).items():
                seen.setdefault(key, []).append(one)
    return [_feature(key, seen[key]) for key in sorted(seen)]


def _of_episode(told: Path, group: h5py.Group) -> dict[str, _Seen]:
    """Return all keys of one episode; those that are not as long as most others have a problem."""
    found = {key: (item, _seen(told, item, key, group)) for key, item in hdf5.items(group)}
    lengths = Counter(len(item) for item, one in found.values() if item is not None and not one.problem)
    usual = lengths.most_common(1)[0][0] if lengths else 0
    return {
        key: one
        if item is None or one.problem or len(item) == usual
        else _Seen(one.shape, one.dtype, "none", f"has {len(item)} entries where other keys have {usual}")
        for key, (item, one) in found.items()
    }


def steps_at(told: Path, dataset: h5py.Dataset, key: str) -> np.ndarray:
    """Return some steps of a dataset, evenly spaced.

    Raises:
        LogError: the file is damaged.
    """
    few = _PICTURES if dataset.ndim >= 3 else _STEPS
    try:
        return np.asarray(dataset[:: max(1, len(dataset) // few)])
    except (OSError, RuntimeError) as error:
        raise LogError(f"{told}: key '{key}' cannot be read, the file is damaged ({error})") from None


def _seen(told: Path, dataset: h5py.Dataset | None, key: str, group: h5py.Group) -> _Seen:
    if dataset is None:
        return _Seen((1,), "–", "none", "is a link that leads nowhere")
    if is_compressed(dataset):
        return _seen_compressed(told, dataset, key)
    # One number per step is a vector of one; HDF5 knows datasets without a shape.
    shape, dtype = tuple((dataset.shape or ())[1:]) or (1,), str(dataset.dtype)
    try:
        hdf5.column(told, group, key)
    except LogError as error:
        return _Seen(shape, dtype, "none", str(error).removeprefix(f"{told}: key '{key}' "))
    if not len(dataset):
        return _Seen(shape, dtype, "none", "holds no step")
    kind = _kind(shape, dataset.dtype)
    if kind == "none":
        expected = "a picture (H, W, 3) in uint8, depth (H, W), a window (T, C) or a vector per step"
        return _Seen(shape, dtype, kind, f"expected {expected}, found {dtype} {shape}")
    few = steps_at(told, dataset, key).reshape(-1, *shape)
    finite = np.isfinite(few)
    if not finite.any() or not (finite.all() or kind == "depth"):
        return _Seen(shape, dtype, kind, "expected finite values, found NaN or infinity")
    low, high = np.where(finite, few, np.inf).min(axis=0), np.where(finite, few, -np.inf).max(axis=0)
    return _Seen(shape, dtype, kind, "", low, high)


def _seen_compressed(told: Path, dataset: h5py.Dataset, key: str) -> _Seen:
    try:
        shape = next(iter(Compressed(told, key, dataset[:1]))).shape
    except LogError as error:
        return _Seen((1,), str(dataset.dtype), "none", str(error).removeprefix(f"{told}: key '{key}', "))
    return _Seen(shape, "uint8 (compressed)", "picture")


def _feature(key: str, seen: Sequence[_Seen]) -> Feature:
    good = [one for one in seen if not one.problem]
    first = (good or seen)[0]
    if not good:
        return Feature(key, first.shape, first.dtype, first.kind, problem=first.problem)
    if not first.low.size:
        return Feature(key, first.shape, first.dtype, first.kind, problem=_together(good))
    low = min(float(one.low.min()) for one in good)
    high = max(float(one.high.max()) for one in good)
    if is_millimetres(first.shape, np.dtype(first.dtype)):
        low, high = low / 1000, high / 1000
    return Feature(key, first.shape, first.dtype, first.kind, low, high, _together(good))


def _together(seen: Sequence[_Seen]) -> str:
    """Return what is wrong with a key over all episodes; empty if nothing is."""
    first = seen[0]
    # Pictures are resized, and of windows the newest samples are taken.
    fixed = {"vector": 0, "window": 1}.get(first.kind, len(first.shape))
    other = next((one for one in seen if (one.kind, one.shape[fixed:]) != (first.kind, first.shape[fixed:])), None)
    if other is not None:
        return f"expected one shape per step, found {first.shape} and {other.shape}"
    if first.kind != "vector":
        return ""
    low = np.min([one.low for one in seen], axis=0)
    high = np.max([one.high for one in seen], axis=0)
    return "never changes" if (low == high).all() else ""


def _kind(shape: tuple[int, ...], dtype: np.dtype) -> str:
    if dtype == np.uint8 and len(shape) == 3 and (shape[2] == 3 or is_channels_first(shape, dtype)):
        return "picture"
    if is_millimetres(shape, dtype):
        return "depth"
    if dtype.kind == "f" and len(shape) in (2, 3) and shape[2:] in ((), (1,)) and min(shape[:2]) >= 32:
        return "depth"
    if len(shape) == 2 and shape[1] <= 16:
        return "window"
    return "vector" if len(shape) == 1 else "none"

"""The features of HDF5 episodes: their shape, type and range, and what a model can make of them."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from smvae_core.data.formats import hdf5
from smvae_core.data.formats.hdf5_pictures import (
    Compressed,
    is_channels_first,
    is_compressed,
    is_millimetres,
    is_plane,
)
from smvae_core.data.formats.protocol import Feature, LogError

# So many episodes, spread over all, are looked at, and so many steps of each, fewer of pictures.
_EPISODES, _STEPS, _PICTURES = 20, 512, 4
_DEAD_LINK = "is a link that leads nowhere"


class _Seen(NamedTuple):
    """One key in one episode; `low` and `high` are those of each number of a step, if there is no problem."""

    shape: tuple[int, ...]
    dtype: str
    kind: str
    problem: str = ""
    low: np.ndarray = np.zeros(0)
    high: np.ndarray = np.zeros(0)


class Described(NamedTuple):
    """The episodes of a data set; the attributes are those of `DataSet`."""

    steps: int
    rate: float | None
    features: tuple[Feature, ...]
    lacking: tuple[str, ...]
    unusable: tuple[str, ...]
    looked_at: int


def described(
    parts: Sequence[Path],
    opened: Callable[[Path], AbstractContextManager[h5py.Group]],
    told: Callable[[Feature], Feature] = lambda feature: feature,
    rate: Callable[[h5py.Group], float | None] = lambda group: None,
) -> Described:
    """Return the features of a data set: all keys of some of its episodes, each with its range.

    The other episodes are only opened, to count their steps. A feature has a problem if no episode can bring it.

    Args:
        parts: the path of each episode.
        opened: opens the group that holds an episode.
        told: adds what a format knows of a feature.
        rate: returns the steps a second of an episode, where it says them.

    Raises:
        LogError: all episodes are damaged.
    """
    episodes: dict[Path, dict[str, _Seen]] = {}
    damaged: dict[Path, str] = {}
    looked_at = parts[:: max(1, -(-len(parts) // _EPISODES))]
    for path in looked_at:
        try:
            with opened(path) as group:
                episodes[path] = _of_episode(path, group)
        except LogError as error:
            damaged[path] = str(error)
    if not episodes:
        raise LogError(next(iter(damaged.values())))
    keys = sorted({key for found in episodes.values() for key in found})
    for key in keys:
        _tell_other_shapes(key, episodes.values())
    features = [told(_feature(key, [found[key] for found in episodes.values() if key in found])) for key in keys]
    usable = [feature.key for feature in features if not feature.problem]
    rates, steps = [], 0
    for path in parts:
        try:
            with opened(path) as group:
                members = [hdf5.member(group, key) for key in usable]
                steps += max((len(item) for item in members if isinstance(item, h5py.Dataset)), default=0)
                rates.append(rate(group))
        except LogError as error:
            damaged.setdefault(path, str(error))
    unusable = damaged | _unusable(episodes, usable)
    return Described(
        steps,
        rates[0] if rates else None,
        tuple(features),
        tuple(_lacking(episodes, usable)),
        tuple(unusable.values()),
        len({*looked_at, *damaged}),
    )


def _lacking(episodes: dict[Path, dict[str, _Seen]], usable: Sequence[str]) -> Iterator[str]:
    for key in usable:
        without = [path for path, found in episodes.items() if key not in found or found[key].problem == _DEAD_LINK]
        if without:
            yield f"{key}: {len(without)} of {len(episodes)} episodes looked at lack it, as {without[0]}"


def _unusable(episodes: dict[Path, dict[str, _Seen]], usable: Sequence[str]) -> dict[Path, str]:
    """Return a sentence on each episode in which a key has a problem that it has not in others."""
    unusable = {}
    for path, found in episodes.items():
        problems = {key: found[key].problem for key in usable if key in found}
        for key in [key for key, problem in problems.items() if problem not in ("", _DEAD_LINK)][:1]:
            unusable[path] = f"{path}: key '{key}' {problems[key]}"
    return unusable


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
        return _Seen((1,), "–", "none", _DEAD_LINK)
    if is_compressed(dataset):
        return _seen_compressed(told, dataset, key)
    # One number per step is a vector of one; HDF5 knows datasets without a shape.
    shape, dtype = tuple((dataset.shape or ())[1:]) or (1,), str(hdf5.type_of(dataset) or "–")
    try:
        hdf5.column(told, group, key)
    except LogError as error:
        return _Seen(shape, dtype, "none", str(error).removeprefix(f"{told}: key '{key}' "))
    if not len(dataset):
        return _Seen(shape, dtype, "none", "holds no step")
    if 0 in shape:
        return _Seen(shape, dtype, "none", "holds no number")
    kind = _kind(shape, dataset.dtype)
    if kind == "none":
        expected = "a picture (H, W, 3) or (H, W) in uint8, depth (H, W), a window (T, C) or a vector per step"
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
    other = next((one for one in seen if _fixed(one) != _fixed(first)), None)
    if other is not None:
        return f"expected one shape per step, found {first.shape} and {other.shape}"
    if first.kind != "vector":
        return ""
    low = np.min([one.low for one in seen], axis=0)
    high = np.max([one.high for one in seen], axis=0)
    return "never changes" if (low == high).all() else ""


def _fixed(seen: _Seen) -> tuple[object, ...]:
    """Return what must be alike in all episodes."""
    # Pictures are resized, and of windows the newest samples are taken.
    free = {"vector": 0, "window": 1}.get(seen.kind, len(seen.shape))
    return (seen.kind, *seen.shape[free:])


def _tell_other_shapes(key: str, episodes: Collection[dict[str, _Seen]]) -> None:
    """Give a problem to a key in episodes where it has another shape than in most."""
    good = [found for found in episodes if key in found and not found[key].problem]
    shapes = Counter(_fixed(found[key]) for found in good)
    usual, times = shapes.most_common(1)[0] if shapes else ((), 0)
    if 2 * times <= len(good):
        return
    whole = next(found[key].shape for found in good if _fixed(found[key]) == usual)
    for found in good:
        if _fixed(found[key]) != usual:
            problem = f"has shape {found[key].shape} per step where most episodes have {whole}"
            found[key] = found[key]._replace(problem=problem)


def _kind(shape: tuple[int, ...], dtype: np.dtype) -> str:
    if dtype == np.uint8 and len(shape) == 3 and (shape[2] == 3 or (is_channels_first(shape) and shape[0] == 3)):
        return "picture"
    if is_plane(shape):
        if dtype == np.uint8:
            return "grey"
        if dtype == np.uint16 or dtype.kind == "f":
            return "depth"
    if len(shape) == 2 and shape[1] <= 16:
        return "window"
    return "vector" if len(shape) == 1 else "none"

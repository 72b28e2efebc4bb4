"""LeRobot data sets, v2.0, v2.1 and v3.0: parquet files of numbers, MP4 files of pictures, and `meta/info.json`.

An episode is a trajectory; its path is that of the data set with `episode_<n>` behind it. A row holds an observation
and the action that was commanded after it.
"""

import io
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from smvae_core.data.formats.lerobot_meta import INFO, Episode, Meta, load_meta
from smvae_core.data.formats.protocol import DataSet, Feature, Format, LogError, Steps, Trajectory
from smvae_core.data.formats.video import EpisodeFrames

# Columns that number rows and episodes.
_NUMBERING = {"timestamp", "frame_index", "episode_index", "index", "task_index"}
# So many episodes, spread over all, are looked at when a data set is described.
_LOOKED_AT = 20
# Side of the pictures that are only decoded to see whether they are there.
_SMALL = 16


def find_episodes(folder: Path) -> list[Trajectory]:
    """Return the episodes of a data set in order of their numbers.

    Raises:
        LogError: the folder is no LeRobot data set, or of a version that is not known.
    """
    meta = load_meta(folder)
    return [Trajectory(name, ((0, folder / name),)) for name in sorted([*meta.episodes, *meta.unlisted])]


def read_episode(path: Path, keys: Collection[str], sizes: Mapping[str, int]) -> Mapping[str, Steps]:
    """Return those features of `keys` that the data set has, for one episode.

    Args:
        path: the data set, with the name of the episode behind it.

    Raises:
        LogError: the data or a video is missing or damaged, a feature is text, the rate is not the one in
            `meta/info.json`, or the list of episodes lacks the episode.
    """
    meta = load_meta(path.parent)
    episode = meta.episode(path)
    wanted = {key: meta.features[key] for key in keys if key in meta.features}
    for key, feature in wanted.items():
        if feature.dtype == "string":
            raise LogError(f"{path}: feature '{key}' expected numbers or pictures, found text")
    numbers = [key for key, feature in wanted.items() if feature.dtype != "video"]
    columns = _columns(path, meta, episode, numbers)
    found: dict[str, Steps] = dict(columns)
    for key, feature in wanted.items():
        if feature.dtype == "video":
            video, start = episode.videos[key]
            told = f"{path}: feature '{key}', {_inside(video, path.parent)}"
            found[key] = EpisodeFrames(told, video, start, episode.length, meta.fps, sizes.get(key))
    return found


def describe(folder: Path) -> DataSet:
    """Return what a data set holds, with the range of each feature in some of its episodes.

    Raises:
        LogError: the folder is no LeRobot data set.
    """
    meta = load_meta(folder)
    looked_at = list(meta.episodes)[:: -(-len(meta.episodes) // _LOOKED_AT)]
    features, unusable = [], {name: f"{folder / name}: {reason}" for name, reason in meta.unlisted.items()}
    unusable |= _without_files(folder, meta)
    for key in meta.features:
        feature, bad = _described(folder, meta, key, looked_at)
        features.append(feature)
        # A feature that no episode can bring is not drafted, so that these can be used without it.
        unusable = unusable if feature.problem else bad | unusable
    steps = sum(episode.length for episode in meta.episodes.values())
    return DataSet(
        folder,
        "lerobot",
        len(meta.episodes),
        steps,
        meta.fps,
        tuple(features),
        unusable=tuple(unusable[name] for name in sorted(unusable)),
        looked_at=len({*looked_at, *unusable}),
    )


def _files(path: Path) -> tuple[Path, ...]:
    meta = load_meta(path.parent)
    if path.name in meta.unlisted:
        return (path.parent / INFO,)
    episode = meta.episodes[path.name]
    return (path.parent / INFO, episode.data, *(video for video, _ in episode.videos.values()))


LEROBOT = Format(find_episodes, read_episode, _files, describe)


class _Pictures:
    """Pictures that stand in the table as PNG or JPEG, decoded one after the other."""

    def __init__(self, told: str, root: Path, cells: list[dict[str, Any] | None]) -> None:
        self._told, self._root, self._cells = told, root, cells

    def __len__(self) -> int:
        return len(self._cells)

    def __iter__(self) -> Iterator[np.ndarray]:
        for step, cell in enumerate(self._cells):
            content = (cell or {}).get("bytes")
            picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
            if picture is None:
                raise LogError(f"{self._told}, step {step}: expected a PNG or JPEG, found none that can be decoded")
            yield picture[..., ::-1]


def _columns(path: Path, meta: Meta, episode: Episode, keys: Collection[str]) -> dict[str, np.ndarray | _Pictures]:
    """Return columns of one episode, after checking its length and its rate."""
    try:
        changed = episode.data.stat().st_mtime_ns
    except OSError as error:
        raise LogError(f"{path}: {_inside(episode.data, path.parent)} cannot be read ({error.strerror})") from None
    table = _table(path, episode.data, tuple(dict.fromkeys(["episode_index", "timestamp", *keys])), changed)
    rows = np.flatnonzero(table.column("episode_index").to_numpy() == episode.number)
    told = f"{path}: {_inside(episode.data, path.parent)}"
    if len(rows) != episode.length or (np.diff(rows) != 1).any():
        raise LogError(f"{told}: expected {episode.length} rows in a row for the episode, found {len(rows)}")
    own = table.slice(int(rows[0]), len(rows))
    _check_rate(told, own.column("timestamp").to_numpy(), meta.fps)
    return {key: _column(f"{told}, feature '{key}'", path.parent, own.column(key), meta.features[key]) for key in keys}


@lru_cache(maxsize=2)
def _table(path: Path, file: Path, columns: tuple[str, ...], _changed: int) -> Any:
    """Return columns of a data file. Episodes that follow each other often share a file, so the newest are kept."""
    # Imported here: processes that read other formats do without it.
    import pyarrow
    from pyarrow import parquet

    told = f"{path}: {_inside(file, path.parent)}"
    try:
        content = parquet.ParquetFile(io.BytesIO(file.read_bytes()))
        missing = [name for name in columns if name not in content.schema_arrow.names]
        if missing:
            raise LogError(f"{told}: expected the column '{missing[0]}', found {content.schema_arrow.names}")
        return content.read(list(columns))
    except (pyarrow.ArrowException, OSError) as error:
        raise LogError(f"{told}: expected a whole parquet file, found a damaged one ({error})") from None


def _column(told: str, root: Path, column: Any, feature: Any) -> np.ndarray | _Pictures:
    if feature.dtype == "image":
        return _Pictures(told, root, column.to_pylist())
    rows, flat = len(column), column.combine_chunks()
    while hasattr(flat, "flatten") and hasattr(flat.type, "value_type"):
        if flat.null_count:
            break
        flat = flat.flatten()
    if flat.null_count:
        raise LogError(f"{told}: expected a value in every row, found rows without one")
    values = flat.to_numpy(zero_copy_only=False)
    shape = (rows, *feature.shape)
    if values.dtype.kind not in "fiub" or values.size != int(np.prod(shape)):
        raise LogError(f"{told}: expected {shape} numbers, found {values.size} of type {values.dtype}")
    return np.asarray(values).reshape(shape)


def _check_rate(told: str, timestamps: np.ndarray, fps: float) -> None:
    """Raise the LogError for timestamps that are not those of the rate in `meta/info.json`."""
    if len(timestamps) < 2:
        return
    found = float(np.median(np.diff(timestamps)))
    if not 0.99 < found * fps < 1.01:
        raise LogError(
            f"{told}, feature 'timestamp': expected steps of {1 / fps:.4f} s, as fps {fps:g} in meta/info.json says, "
            f"found {found:.4f} s"
        )


def _described(folder: Path, meta: Meta, key: str, looked_at: list[str]) -> tuple[Feature, dict[str, str]]:
    """Return a feature, and by name of an episode why it cannot bring the feature that others bring."""
    feature = meta.features[key]
    shape = tuple(feature.shape)
    low = high = None
    kind, problem, bad = "none", "", dict[str, str]()
    if key in _NUMBERING:
        problem = "numbers rows and episodes"
    elif feature.dtype == "string":
        problem = "is text; expected numbers or pictures"
    elif feature.dtype in ("video", "image"):
        kind, problem, bad = _describe_pictures(folder, meta, key, looked_at)
    elif _kind(shape) == "none":
        problem = f"expected a vector, a window (T, n) or depth (H, W, 1) per step, found shape {shape}"
    else:
        kind, low, high, problem, bad = _describe_numbers(folder, meta, key, looked_at)
    return Feature(key, shape, feature.dtype, kind, low, high, problem), bad


def _describe_pictures(folder: Path, meta: Meta, key: str, looked_at: list[str]) -> tuple[str, str, dict[str, str]]:
    bad: dict[str, str] = {}
    if meta.features[key].dtype == "video":
        videos = {name: episode.videos[key][0] for name, episode in meta.episodes.items()}
        missing = {name: video for name, video in videos.items() if not video.is_file()}
        bad = {
            name: f"{folder / name}: feature '{key}', {_inside(video, folder)}: no such file"
            for name, video in missing.items()
        }
        if len(missing) == len(videos):
            every = set(videos.values())
            return "none", f"{len(every)} of {len(every)} videos are missing, {_inside(min(every), folder)} first", bad
    for name in looked_at:
        try:
            _last_picture(folder, meta, key, name)
        except LogError as error:
            bad.setdefault(name, str(error))
    if all(name in bad for name in looked_at):
        return "none", bad[looked_at[0]], bad
    return "picture", "", bad


def _last_picture(folder: Path, meta: Meta, key: str, name: str) -> None:
    """Read the last picture of an episode, or the first of those that stand in the table.

    Raises:
        LogError: it cannot be read.
    """
    if meta.features[key].dtype == "image":
        next(iter(read_episode(folder / name, [key], {})[key]))
        return
    episode = meta.episodes[name]
    video, start = episode.videos[key]
    told = f"{folder / name}: feature '{key}', {_inside(video, folder)}"
    last = start + (episode.length - 1) / meta.fps
    list(EpisodeFrames(told, video, last, 1, meta.fps, _SMALL))


def _describe_numbers(
    folder: Path, meta: Meta, key: str, looked_at: list[str]
) -> tuple[str, float | None, float | None, str, dict[str, str]]:
    parts: list[np.ndarray] = []
    bad: dict[str, str] = {}
    for name in looked_at:
        try:
            values = np.asarray(read_episode(folder / name, [key], {})[key], np.float64)
        except LogError as error:
            bad[name] = str(error)
            continue
        if np.isfinite(values).all():
            parts.append(values)
        else:
            bad[name] = f"{folder / name}: feature '{key}' expected finite values, found NaN or infinity"
    if not parts:
        return "none", None, None, bad[looked_at[0]], bad
    values = np.concatenate(parts)
    low, high = float(values.min()), float(values.max())
    if (values.min(axis=0) == values.max(axis=0)).all():
        return "none", low, high, "never changes", bad
    return _kind(meta.features[key].shape), low, high, "", bad


def _without_files(folder: Path, meta: Meta) -> dict[str, str]:
    """Return a sentence for each episode whose data file is missing."""
    there = {file: file.is_file() for file in {episode.data for episode in meta.episodes.values()}}
    return {
        name: f"{folder / name}: {_inside(episode.data, folder)} cannot be read (no such file)"
        for name, episode in meta.episodes.items()
        if not there[episode.data]
    }


def _kind(shape: tuple[int, ...]) -> str:
    """Return what numbers of a shape per step are: LeRobot itself only knows vectors, `smvae log` writes all three."""
    if len(shape) == 3 and shape[2] == 1:
        return "depth"
    return {1: "vector", 2: "window"}.get(len(shape), "none")


def _inside(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()

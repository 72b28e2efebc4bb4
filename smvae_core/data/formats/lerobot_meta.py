"""The description of a LeRobot data set: `meta/info.json` and its list of episodes, of versions 2 and 3."""

import json
from collections.abc import Collection
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, PositiveFloat, PositiveInt, ValidationError, field_validator

from smvae_core.data.formats.protocol import LogError
from smvae_core.errors import explain

INFO = Path("meta", "info.json")
_MOST_UNLISTED = 1000
_VERSIONS = ("v2.0", "v2.1", "v3.0")


class FeatureInfo(BaseModel):
    """One feature in `info.json`; `dtype` is that of numpy, or `video`, `image` or `string`."""

    dtype: str
    shape: tuple[int, ...]

    @field_validator("shape")
    @classmethod
    def _number_is_vector(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape or (1,)


class _Info(BaseModel):
    codebase_version: str
    fps: PositiveFloat
    features: dict[str, FeatureInfo]
    data_path: str
    video_path: str | None = None
    total_episodes: int = 0
    chunks_size: PositiveInt = 1000


class Episode(NamedTuple):
    """One episode: its number and length, its data file, and for each camera the video with the start in seconds."""

    number: int
    length: int
    data: Path
    videos: dict[str, tuple[Path, float]]


class Meta(NamedTuple):
    """The description of a data set.

    Attributes:
        episodes: by name, in order of their numbers.
        unlisted: by name, why an episode that `info.json` counts cannot be found.
    """

    fps: float
    features: dict[str, FeatureInfo]
    episodes: dict[str, Episode]
    unlisted: dict[str, str]

    def episode(self, path: Path) -> Episode:
        """Return the episode of a path, which is that of the data set with the name of the episode behind it.

        Raises:
            LogError: the list of episodes lacks it.
        """
        if path.name in self.unlisted:
            raise LogError(f"{path}: {self.unlisted[path.name]}")
        return self.episodes[path.name]


def load_meta(root: Path) -> Meta:
    """Return the description of a data set.

    Raises:
        LogError: the folder is no LeRobot data set, its description is damaged, or its version is not known.
    """
    try:
        changed = (root / INFO).stat().st_mtime_ns
    except OSError:
        raise LogError(f"{root}: expected a LeRobot data set with {INFO}, found none") from None
    return _load(root, changed)


@lru_cache(maxsize=4)
def _load(root: Path, _changed: int) -> Meta:
    path = root / INFO
    try:
        info = _Info.model_validate(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        reason = explain(error) if isinstance(error, ValidationError) else str(error)
        raise LogError(f"{path}: expected the description of a LeRobot data set, found: {reason}") from None
    if info.codebase_version not in _VERSIONS:
        raise LogError(
            f"{path}: expected a LeRobot data set of version {', '.join(_VERSIONS)}, found {info.codebase_version}; "
            "convert it with the scripts of LeRobot"
        )
    cameras = [key for key, feature in info.features.items() if feature.dtype == "video"]
    if cameras and not info.video_path:
        raise LogError(f"{path}: expected 'video_path' for feature '{cameras[0]}', found none")
    try:
        found = (
            _episodes_3(root, info, cameras) if info.codebase_version == "v3.0" else _episodes_2(root, info, cameras)
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise LogError(f"{path.parent}: the list of episodes does not fit {INFO.name} ({error!r})") from None
    if not found:
        raise LogError(f"{path.parent}: expected at least one episode in the list of episodes, found none")
    ordered = sorted(found, key=lambda episode: episode.number)
    episodes = {_name(episode.number): episode for episode in ordered}
    return Meta(info.fps, info.features, episodes, _unlisted(info.total_episodes, episodes))


def _name(number: int) -> str:
    return f"episode_{number:06d}"


def _unlisted(total: int, episodes: Collection[str]) -> dict[str, str]:
    lacking = (name for name in map(_name, range(total)) if name not in episodes)
    names = islice(lacking, min(max(0, total - len(episodes)), _MOST_UNLISTED))
    reason = f"is not in the list of episodes; it has {len(episodes)} of the {total} that {INFO.as_posix()} counts"
    return dict.fromkeys(names, reason)


def _episodes_2(root: Path, info: _Info, cameras: list[str]) -> list[Episode]:
    """Return the episodes of version 2: a line of `episodes.jsonl`, a data file and a video per camera for each."""
    path = root / "meta" / "episodes.jsonl"
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise LogError(f"{path}: cannot be read ({error.strerror})") from None
    episodes = []
    for line in lines:
        if not line.strip():
            continue
        entry = json.loads(line)
        index = int(entry["episode_index"])
        place = {"episode_chunk": index // info.chunks_size, "episode_index": index}
        videos = {key: (root / str(info.video_path).format(video_key=key, **place), 0.0) for key in cameras}
        episodes.append(Episode(index, int(entry["length"]), root / info.data_path.format(**place), videos))
    return episodes


def _episodes_3(root: Path, info: _Info, cameras: list[str]) -> list[Episode]:
    """Return the episodes of version 3: rows of parquet files that say where each one stands in larger files."""
    import pyarrow
    from pyarrow import parquet

    columns = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    columns += [f"videos/{key}/{name}" for key in cameras for name in ("chunk_index", "file_index", "from_timestamp")]
    episodes = []
    for path in sorted((root / "meta" / "episodes").rglob("*.parquet")):
        try:
            table = parquet.ParquetFile(path)
            if missing := [name for name in columns if name not in table.schema_arrow.names]:
                raise LogError(f"{path}: expected the column '{missing[0]}', found none")
            rows = table.read(columns).to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise LogError(f"{path}: expected a whole parquet file, found a damaged one ({error})") from None
        episodes += [_episode_3(root, info, cameras, row) for row in rows]
    return episodes


def _episode_3(root: Path, info: _Info, cameras: list[str], row: dict[str, Any]) -> Episode:
    data = info.data_path.format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])
    videos = {}
    for key in cameras:
        chunk, file, start = (row[f"videos/{key}/{n}"] for n in ("chunk_index", "file_index", "from_timestamp"))
        if None in (chunk, file, start):
            raise LogError(
                f"{root / _name(int(row['episode_index']))}: expected chunk_index, file_index and from_timestamp of "
                f"the video of '{key}' in the list of episodes, found an empty cell"
            )
        video = str(info.video_path).format(video_key=key, chunk_index=chunk, file_index=file)
        videos[key] = (root / video, float(start))
    return Episode(int(row["episode_index"]), int(row["length"]), root / data, videos)

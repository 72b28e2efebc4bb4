"""Writer of LeRobot data sets, version 3.0: whole or not at all.

All episodes stand in one data file, and in one H.264 video per camera.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from smvae_core.data.formats.lerobot_stats import Statistics
from smvae_core.data.formats.protocol import LogError
from smvae_core.data.formats.video import import_av

_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_FIRST = {"chunk_index": 0, "file_index": 0}
_NUMBERING = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64"}


Steps = Mapping[str, np.ndarray]
"""Steps in a row, by name of a feature."""


def write_lerobot(
    out: Path,
    fps: float,
    episodes: Iterable[Iterable[Steps]],
    task: str,
    robot: str = "unknown",
    notes: Mapping[str, str] = MappingProxyType({}),
    names: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> int:
    """Write episodes as a LeRobot data set.

    Args:
        out: a folder that does not exist yet.
        fps: steps a second.
        episodes: each in parts of consecutive steps, so that a long one need not be in memory. A part has, by name of a
            feature (`observation.state`, `action`, `observation.images.front`), either pictures (T, H, W, 3), uint8
            RGB, or numbers (T, ...). All parts have the same features and shapes.
        task: the task in words, the same for all episodes.
        notes: content of further files in `meta/`, by name.
        names: what the numbers of a feature are, as the joints, by name of the feature.

    Returns:
        The number of episodes.

    Raises:
        LogError: `out` exists or cannot be written, PyAV is missing, there is no episode, or episodes differ in their
            features. Nothing is left of the data set.
    """
    if out.exists():
        raise LogError(f"{out}: exists already; name another folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
            folder = Path(temporary) / "data_set"
            with _Writer(folder, out, fps, task, robot, names) as writer:
                for episode in episodes:
                    writer.add(episode)
                count = writer.finish()
            for name, text in notes.items():
                (folder / "meta" / name).write_text(text)
            shutil.move(folder, out)
            return count
    except OSError as error:
        raise LogError(f"{out}: cannot be written ({error.strerror or error})") from None


class _Writer:
    """The open files of a data set that grows episode by episode."""

    def __init__(
        self, folder: Path, out: Path, fps: float, task: str, robot: str, names: Mapping[str, Sequence[str]]
    ) -> None:
        self._folder, self._out, self._fps, self._task, self._robot = folder, out, fps, task, robot
        self._names = names
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._videos: dict[str, _Video] = {}
        self._table: parquet.ParquetWriter | None = None
        self._statistics = Statistics()
        self._rows: list[dict[str, Any]] = []
        self._steps = 0

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for video in self._videos.values():
            video.close()
        if self._table is not None:
            self._table.close()

    def add(self, parts: Iterable[Steps]) -> None:
        begin = self._steps
        for part in parts:
            self._add_steps({key: np.asarray(values) for key, values in part.items()}, self._steps - begin)
        if self._steps == begin:
            raise LogError(f"{self._out}: episode {len(self._rows)}: expected at least one step, found none")
        row: dict[str, Any] = {
            "episode_index": len(self._rows),
            "tasks": [self._task],
            "length": self._steps - begin,
            "data/chunk_index": 0,
            "data/file_index": 0,
            "dataset_from_index": begin,
            "dataset_to_index": self._steps,
        }
        for key in self._videos:
            row |= {f"videos/{key}/chunk_index": 0, f"videos/{key}/file_index": 0}
            row[f"videos/{key}/from_timestamp"] = begin / self._fps
            row[f"videos/{key}/to_timestamp"] = self._steps / self._fps
        self._rows.append(row)

    def _add_steps(self, arrays: dict[str, np.ndarray], done: int) -> None:
        """Add steps to the open episode, of which `done` steps were added before."""
        length = self._checked(arrays)
        steps = done + np.arange(length)
        columns = {key: _lists(values) for key, values in arrays.items() if not _is_video(values)} | {
            "timestamp": pa.array((steps / self._fps).astype(np.float32)),
            "frame_index": pa.array(steps),
            "episode_index": pa.array(np.full(length, len(self._rows))),
            "index": pa.array(self._steps + np.arange(length)),
            "task_index": pa.array(np.zeros(length, np.int64)),
        }
        table = pa.table(columns)
        if self._table is None:
            self._table = parquet.ParquetWriter(_made(self._folder / _DATA.format(**_FIRST)), table.schema)
        self._table.write_table(table)
        for key, values in arrays.items():
            if _is_video(values):
                self._video(key).write(values)
        self._statistics.add(arrays)
        self._steps += length

    def finish(self) -> int:
        if not self._rows:
            raise LogError(f"{self._out}: expected at least one episode to write, found none")
        meta = self._folder / "meta"
        parquet.write_table(
            pa.Table.from_pylist([row | _META for row in self._rows]),
            _made(meta / "episodes/chunk-000/file-000.parquet"),
        )
        parquet.write_table(_task_table(self._task), meta / "tasks.parquet")
        (meta / "stats.json").write_text(json.dumps(self._statistics.as_json(), indent=4))
        (meta / "info.json").write_text(json.dumps(self._info(), indent=4))
        return len(self._rows)

    def _checked(self, arrays: dict[str, np.ndarray]) -> int:
        """Return the length of an episode, after comparing it with the first one."""
        shapes = {key: values.shape[1:] for key, values in arrays.items()}
        self._shapes = self._shapes or shapes
        lengths = {key: len(values) for key, values in arrays.items()}
        if shapes != self._shapes or not lengths or len(set(lengths.values())) > 1 or 0 in lengths.values():
            raise LogError(
                f"{self._out}: episode {len(self._rows)}: expected features {self._shapes} of one length, "
                f"found {shapes} of lengths {lengths}"
            )
        return next(iter(lengths.values()))

    def _video(self, key: str) -> "_Video":
        if key not in self._videos:
            path = _made(self._folder / _VIDEO.format(video_key=key, **_FIRST))
            self._videos[key] = _Video(path, f"{self._out}: feature '{key}'", self._fps)
        return self._videos[key]

    def _info(self) -> dict[str, Any]:
        features: dict[str, Any] = {}
        for key, shape in self._shapes.items():
            if key in self._videos:
                height, width = (side + side % 2 for side in shape[:2])
                features[key] = {
                    "dtype": "video",
                    "shape": [height, width, 3],
                    "names": ["height", "width", "channels"],
                    "info": {
                        "video.height": height,
                        "video.width": width,
                        "video.channels": 3,
                        "video.codec": "h264",
                        "video.pix_fmt": "yuv420p",
                        "video.is_depth_map": False,
                        "video.fps": self._rate,
                        "has_audio": False,
                    },
                }
            else:
                told = list(self._names[key]) if key in self._names else None
                features[key] = {"dtype": "float32", "shape": list(shape) or [1], "names": told}
        features |= {key: {"dtype": dtype, "shape": [1], "names": None} for key, dtype in _NUMBERING.items()}
        features["task_index"] = {"dtype": "int64", "shape": [1], "names": None}
        return {
            "codebase_version": "v3.0",
            "robot_type": self._robot,
            "total_episodes": len(self._rows),
            "total_frames": self._steps,
            "total_tasks": 1,
            "chunks_size": 1000,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 500,
            "fps": self._rate,
            "splits": {"train": f"0:{len(self._rows)}"},
            "data_path": _DATA,
            "video_path": _VIDEO if self._videos else None,
            "features": features,
        }

    @property
    def _rate(self) -> int | float:
        return int(self._fps) if float(self._fps).is_integer() else self._fps


_META = {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}


class _Video:
    """The video of one camera, to which episodes are appended."""

    def __init__(self, path: Path, told: str, fps: float) -> None:
        self._av = import_av(told)
        self._container = self._av.open(str(path), "w")
        self._rate = Fraction(fps).limit_denominator(1001)
        self._stream: Any = None
        self._done = 0

    def write(self, pictures: np.ndarray) -> None:
        # Two rows or columns share a colour in H.264, so odd sides get one more.
        sides = [(0, 0), *((0, side % 2) for side in pictures.shape[1:3]), (0, 0)]
        pictures = np.pad(pictures, sides, mode="edge")
        if self._stream is None:
            # A key frame every second step, as LeRobot's own videos have: any step is found quickly.
            self._stream = self._container.add_stream("libx264", rate=self._rate, options={"g": "2", "crf": "20"})
            self._stream.height, self._stream.width = pictures.shape[1:3]
            self._stream.pix_fmt = "yuv420p"
            self._stream.time_base = 1 / self._rate
        for picture in pictures:
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = self._done
            frame.time_base = 1 / self._rate
            self._container.mux(self._stream.encode(frame))
            self._done += 1

    def close(self) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()


def _is_video(values: np.ndarray) -> bool:
    return values.ndim == 4 and values.shape[3] == 3 and values.dtype == np.uint8


def _lists(values: np.ndarray) -> pa.Array:
    """Return numbers as a column; of several a step, as lists in the nesting that LeRobot reads them with."""
    column = pa.array(values.astype(np.float32).ravel())
    if values.ndim == 1 or values.shape[1:] == (1,):
        return column
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(column, values.shape[1])
    for length in reversed(values.shape[1:]):
        column = pa.ListArray.from_arrays(np.arange(0, len(column) + 1, length, dtype=np.int32), column)
    return column


def _task_table(task: str) -> pa.Table:
    """Return the table of tasks, whose index is the task in words, in the form in which pandas stores an index."""
    table = pa.table({"task_index": pa.array([0]), "__index_level_0__": pa.array([task])})
    column = {"field_name": "task_index", "name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
    index = {"field_name": "__index_level_0__", "name": None, "pandas_type": "unicode", "numpy_type": "object"}
    pandas = {
        "index_columns": ["__index_level_0__"],
        "column_indexes": [],
        "columns": [column | {"metadata": None}, index | {"metadata": None}],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path

"""Small data sets in the layouts of LeRobot, robomimic and ALOHA."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import h5py
import numpy as np
import pyarrow as pa
from pyarrow import parquet

FPS = 10
SIDE = 64


def picture(episode: int, step: int) -> np.ndarray:
    """A bright square whose place tells episode and step."""
    image = np.full((SIDE, SIDE + 32, 3), 40, np.uint8)
    left, top = (4 * step) % 64, (16 * episode) % 48
    image[top : top + 16, left : left + 16] = (220, 180, 60)
    return image


def write_video(path: Path, pictures: Sequence[np.ndarray], fps: int = FPS, codec: str = "libx264") -> Path:
    """An MP4 with a key frame every five frames, so that episodes do not begin with one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with same_priority(), av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options={"g": "5", "crf": "10"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        for step, image in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = step
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@contextmanager
def same_priority() -> Iterator[None]:
    """Take back the real-time priority that libsvtav1 gives to a process of root, where it starves all others."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def numbers(episode: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """State (length, 3) and action (length, 5), which hold episode and step."""
    steps = np.arange(length)
    state = np.stack([steps, np.full(length, episode), np.sin(steps)], axis=1)
    action = np.stack([steps + 0.5, *([np.cos(steps + k) for k in range(4)])], axis=1)
    return state.astype(np.float32), action.astype(np.float32)


def features(cameras: Sequence[str], extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """The features of `info.json`."""
    scalar = {
        name: {"dtype": "int64", "shape": [1], "names": None} for name in ("frame_index", "episode_index", "index")
    }
    return {
        "observation.state": {"dtype": "float32", "shape": [3], "names": None},
        "action": {"dtype": "float32", "shape": [5], "names": None},
        **{
            f"observation.images.{camera}": {
                "dtype": "video",
                "shape": [SIDE, SIDE + 32, 3],
                "names": ["height", "width", "channels"],
            }
            for camera in cameras
        },
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **scalar,
        "task_index": {"dtype": "int64", "shape": [1], "names": None},
        **(extra or {}),
    }


def _table(episode: int, length: int, first: int) -> pa.Table:
    state, action = numbers(episode, length)
    steps = np.arange(length)
    return pa.table(
        {
            "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(state.ravel()), 3),
            "action": pa.array(list(action), pa.list_(pa.float32())),
            "timestamp": pa.array((steps / FPS).astype(np.float32)),
            "frame_index": pa.array(steps),
            "episode_index": pa.array(np.full(length, episode)),
            "index": pa.array(first + steps),
            "task_index": pa.array(np.zeros(length, np.int64)),
            "note": pa.array(["a word"] * length),
        }
    )


def write_lerobot_2(
    folder: Path, lengths: Sequence[int] = (12, 9, 10), cameras: Sequence[str] = ("front",), **info: Any
) -> Path:
    """Version 2.1: one data file and one video per episode and camera."""
    first = 0
    (folder / "meta").mkdir(parents=True)
    for episode, length in enumerate(lengths):
        path = folder / f"data/chunk-000/episode_{episode:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(_table(episode, length, first), path)
        for camera in cameras:
            video = folder / f"videos/chunk-000/observation.images.{camera}/episode_{episode:06d}.mp4"
            write_video(video, [picture(episode, step) for step in range(length)])
        first += length
    lines = [{"episode_index": e, "tasks": ["move"], "length": n} for e, n in enumerate(lengths)]
    (folder / "meta/episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "move"}) + "\n")
    _write_info(
        folder,
        "v2.1",
        lengths,
        cameras,
        "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        info,
    )
    return folder


def write_lerobot_3(
    folder: Path,
    lengths: Sequence[int] = (12, 9, 10),
    cameras: Sequence[str] = ("front",),
    codec: str = "libx264",
    **info: Any,
) -> Path:
    """Version 3.0: all episodes in one data file, and in one video per camera."""
    (folder / "meta/episodes/chunk-000").mkdir(parents=True)
    (folder / "data/chunk-000").mkdir(parents=True)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(int)
    tables = [_table(e, n, first) for (e, n), first in zip(enumerate(lengths), starts)]
    parquet.write_table(pa.concat_tables(tables), folder / "data/chunk-000/file-000.parquet")
    pictures = [picture(e, step) for e, n in enumerate(lengths) for step in range(n)]
    rows: dict[str, list[Any]] = {
        "episode_index": list(range(len(lengths))),
        "tasks": [["move"]] * len(lengths),
        "length": list(lengths),
        "data/chunk_index": [0] * len(lengths),
        "data/file_index": [0] * len(lengths),
        "dataset_from_index": [int(s) for s in starts],
        "dataset_to_index": [int(s) + n for s, n in zip(starts, lengths)],
    }
    for camera in cameras:
        key = f"observation.images.{camera}"
        write_video(folder / f"videos/{key}/chunk-000/file-000.mp4", pictures, codec=codec)
        rows[f"videos/{key}/chunk_index"] = [0] * len(lengths)
        rows[f"videos/{key}/file_index"] = [0] * len(lengths)
        rows[f"videos/{key}/from_timestamp"] = [s / FPS for s in starts]
        rows[f"videos/{key}/to_timestamp"] = [(s + n) / FPS for s, n in zip(starts, lengths)]
    parquet.write_table(pa.table(rows), folder / "meta/episodes/chunk-000/file-000.parquet")
    _write_info(
        folder,
        "v3.0",
        lengths,
        cameras,
        "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        info,
    )
    return folder


def _write_info(
    folder: Path,
    version: str,
    lengths: Sequence[int],
    cameras: Sequence[str],
    data: str,
    video: str,
    changes: dict[str, Any],
) -> None:
    info = {
        "codebase_version": version,
        "robot_type": "made",
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": data,
        "video_path": video,
        "features": features(cameras),
    }
    (folder / "meta/info.json").write_text(json.dumps(info | changes, indent=4))


def write_robomimic(path: Path, lengths: Sequence[int] = (8, 11, 9)) -> Path:
    """The layout of robomimic 0.3: all demonstrations in one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(lengths)
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}})
        for episode, length in enumerate(lengths):
            state, action = numbers(episode, length)
            demo = data.create_group(f"demo_{episode}")
            demo.attrs["num_samples"] = length
            demo["actions"], demo["rewards"], demo["dones"] = action, np.zeros(length), np.zeros(length, int)
            demo["states"] = np.random.default_rng(0).normal(size=(length, 32))
            for group in ("obs", "next_obs"):
                demo[f"{group}/robot0_eef_pos"] = state
                demo[f"{group}/agentview_image"] = np.stack([picture(episode, step) for step in range(length)])
        file["mask/train"] = np.array([b"demo_0", b"demo_1"])
    return path


def write_aloha(folder: Path, lengths: Sequence[int] = (8, 11, 9), compressed: bool = False) -> Path:
    """The layout of ALOHA: one file per episode."""
    folder.mkdir(parents=True)
    for episode, length in enumerate(lengths):
        state, action = numbers(episode, length)
        pictures = np.stack([picture(episode, step) for step in range(length)])
        with h5py.File(folder / f"episode_{episode}.hdf5", "w") as file:
            file.attrs["sim"], file.attrs["compress"] = False, compressed
            file["action"] = action
            file["observations/qpos"] = state
            file["observations/qvel"] = np.gradient(state, axis=0)
            if compressed:
                jpegs = [cv2.imencode(".jpg", image[..., ::-1])[1].ravel() for image in pictures]
                rows = np.zeros((length, max(map(len, jpegs))), np.uint8)
                for row, jpeg in zip(rows, jpegs):
                    row[: len(jpeg)] = jpeg
                file["observations/images/top"] = rows
                file["compress_len"] = np.array([[len(jpeg) for jpeg in jpegs]], float)
            else:
                file["observations/images/top"] = pictures
    return folder

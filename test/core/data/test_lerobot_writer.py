"""Data sets that are written have LeRobot's layout of version 3.0, and are read back."""

import json
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from smvae_core.data.draft import describe
from smvae_core.data.formats.lerobot import find_episodes, read_episode
from smvae_core.data.formats.lerobot_writer import write_lerobot
from smvae_core.data.formats.protocol import LogError

from ..robot_data import FPS, numbers, picture

FRONT = "observation.images.front"
LENGTHS = (7, 12, 5)


def episode(number: int, length: int) -> dict[str, np.ndarray]:
    state, action = numbers(number, length)
    pictures = np.stack([picture(number, step)[:63] for step in range(length)])
    return {"observation.state": state, "action": action, FRONT: pictures}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert write_lerobot(tmp_path / "set", FPS, ([episode(e, n)] for e, n in enumerate(LENGTHS)), "insert the peg") == 3
    return tmp_path / "set"


def test_what_was_written_is_read_back(folder):
    assert [t.name for t in find_episodes(folder)] == [f"episode_{n:06d}" for n in range(3)]
    for number, length in enumerate(LENGTHS):
        found = read_episode(folder / f"episode_{number:06d}", ["observation.state", "action", FRONT], {})
        wanted = episode(number, length)
        np.testing.assert_array_equal(found["observation.state"], wanted["observation.state"])
        np.testing.assert_array_equal(found["action"], wanted["action"])
        pictures = list(found[FRONT])
        assert len(pictures) == length and pictures[0].shape == (64, 96, 3)
        for image, exact in zip(pictures, wanted[FRONT]):
            assert np.abs(image[:63].astype(int) - exact).mean() < 5
    found_set = describe(folder)
    assert (found_set.steps, found_set.rate) == (24, FPS)
    assert {f.key for f in found_set.features if not f.problem} == {"observation.state", "action", FRONT}


def test_files_columns_and_types_are_those_of_version_3(folder):
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        f"videos/{FRONT}/chunk-000/file-000.mp4",
    ]
    info = json.loads((folder / "meta/info.json").read_text())
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"]) == ("v3.0", 3, 24)
    assert (info["fps"], info["splits"]) == (FPS, {"train": "0:3"})
    assert info["features"][FRONT]["shape"] == [64, 96, 3] and info["features"][FRONT]["dtype"] == "video"
    data = parquet.read_table(folder / "data/chunk-000/file-000.parquet")
    types = {name: str(data.schema.field(name).type) for name in data.column_names}
    assert types == {
        "observation.state": "fixed_size_list<element: float>[3]",
        "action": "fixed_size_list<element: float>[5]",
        "timestamp": "float",
        "frame_index": "int64",
        "episode_index": "int64",
        "index": "int64",
        "task_index": "int64",
    }
    assert data["index"].to_pylist() == list(range(24))
    episodes = parquet.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["dataset_from_index"] for row in episodes] == [0, 7, 19]
    assert [row["dataset_to_index"] for row in episodes] == [7, 19, 24]
    assert [row[f"videos/{FRONT}/from_timestamp"] for row in episodes] == [0.0, 0.7, 1.9]
    assert [row["tasks"] for row in episodes] == [["insert the peg"]] * 3
    tasks = parquet.read_table(folder / "meta/tasks.parquet")
    assert tasks.to_pylist() == [{"task_index": 0, "__index_level_0__": "insert the peg"}]
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["__index_level_0__"]


def test_the_statistics_are_those_of_the_data(folder):
    stats = json.loads((folder / "meta/stats.json").read_text())
    state = np.concatenate([numbers(e, n)[0] for e, n in enumerate(LENGTHS)]).astype(np.float64)
    for name, value in (("min", state.min(0)), ("max", state.max(0)), ("mean", state.mean(0)), ("std", state.std(0))):
        np.testing.assert_allclose(stats["observation.state"][name], value, atol=1e-6)
    assert stats["observation.state"]["count"] == [24]
    assert np.shape(stats[FRONT]["mean"]) == (3, 1, 1) and 0 < stats[FRONT]["mean"][0][0][0] < 1


@pytest.mark.parametrize(
    ("episodes", "sentence"),
    [
        ([], "expected at least one episode"),
        ([{"action": np.zeros((3, 2))}, {"action": np.zeros((3, 4))}], "episode 1: expected features"),
        ([{"action": np.zeros((3, 2)), "observation.state": np.zeros((4, 2))}], "of one length"),
        ([{"action": np.zeros((0, 2))}], "of one length"),
    ],
)
def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path, episodes, sentence):
    with pytest.raises(LogError, match=sentence):
        write_lerobot(tmp_path / "set", FPS, ([episode] for episode in episodes), "nothing")
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(folder):
    with pytest.raises(LogError, match="exists already"):
        write_lerobot(folder, FPS, [[episode(0, 3)]], "again")
    assert len(find_episodes(folder)) == 3


def test_an_error_midway_leaves_nothing(tmp_path):
    def broken():
        yield [episode(0, 3)]
        raise RuntimeError("the bag ends here")

    with pytest.raises(RuntimeError):
        write_lerobot(tmp_path / "set", FPS, broken(), "nothing")
    assert not list(tmp_path.iterdir())

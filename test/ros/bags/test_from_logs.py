"""Logs into bags: the stamps, the contents, and one clear error for what cannot be."""

import shutil
import subprocess
from collections import defaultdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from smvae_core.data.formats.protocol import LogError
from smvae_core.data.formats.vision_touch import find_trajectories, read_trajectory
from smvae_core.modality import vision_touch_modalities
from smvae_ros.bags.from_logs import STEP_NS, pick_trajectory, write_bag
from smvae_ros.bags.reading import BagError, bag_hash, read_bag
from smvae_ros.conversions.arrays import raw_array
from smvae_ros.conversions.bindings import bind

from ..command import smvae

RGB, DEPTH, FORCE, ACTION = bind(vision_touch_modalities(), {})
TOPICS = {"rgb": "/rgb/image", "depth": "/depth/image", "force": "/wrench", "action": "/action"}
STEPS = 21
START_NS = int(datetime(2019, 4, 8, 18, 30, 41, tzinfo=timezone.utc).timestamp()) * 1_000_000_000


def read(bag: Path) -> dict[str, list[tuple[int, Any]]]:
    messages = defaultdict(list)
    for modality, log_ns, stamp_ns, message in read_bag(bag, TOPICS):
        assert log_ns == stamp_ns
        messages[modality].append((stamp_ns, message))
    return messages


def test_images_bear_the_end_of_their_step_and_are_the_logs(bag: Path, logs: Path) -> None:
    log = read_trajectory(find_trajectories(logs)[0], ["image", "depth_data"])
    messages = read(bag)
    ends = [START_NS + (step + 1) * STEP_NS for step in range(STEPS)]
    assert [stamp for stamp, _ in messages["rgb"]] == ends == [stamp for stamp, _ in messages["depth"]]
    assert np.array_equal([raw_array(RGB, [message]) for _, message in messages["rgb"]], log["image"])
    metres = np.stack([raw_array(DEPTH, [message]) for _, message in messages["depth"]])
    np.testing.assert_allclose(metres, np.nan_to_num(log["depth_data"][..., 0]), atol=0.00051)
    assert not metres[:, :4].any(), "no reading is 0"
    assert {message.header.frame_id for _, message in messages["rgb"] + messages["depth"]} == {"camera"}


def test_forces_come_at_1_khz_and_the_newest_of_a_step_bears_its_end(bag: Path, logs: Path) -> None:
    log = read_trajectory(find_trajectories(logs)[0], ["ee_forces_continuous"])["ee_forces_continuous"].reshape(-1, 6)
    messages = read(bag)["force"]
    assert [stamp for stamp, _ in messages] == [START_NS + (i + 1) * 1_000_000 for i in range(50 * STEPS)]
    np.testing.assert_allclose(raw_array(FORCE, [message for _, message in messages]), log, rtol=1e-6)


def test_the_command_that_follows_an_observation_bears_its_stamp(bag: Path, logs: Path) -> None:
    log = read_trajectory(find_trajectories(logs)[0], ["action"])["action"]
    messages = read(bag)["action"]
    assert [stamp for stamp, _ in messages] == [START_NS + (step + 1) * STEP_NS for step in range(STEPS - 1)]
    np.testing.assert_allclose([raw_array(ACTION, [message]) for _, message in messages], log[1:], rtol=1e-6)


def test_the_camera_info_fits_the_depth(bag: Path) -> None:
    infos = [message for *_, message in read_bag(bag, {"info": "/depth/camera_info"})]
    assert len(infos) == STEPS
    assert (infos[0].height, infos[0].width) == (128, 128)
    assert 2 * np.degrees(np.arctan(64 / infos[0].k[4])) == pytest.approx(26.5)


def test_a_missing_part_leaves_a_gap_and_no_command_across_it(logs: Path, tmp_path: Path) -> None:
    for path in logs.iterdir():
        shutil.copy(path, tmp_path / path.name.replace("_7_2_", "_7_3_"))
    write_bag(find_trajectories(tmp_path)[0], tmp_path / "bag", fov=26.5)
    messages = read(tmp_path / "bag")
    stamps = [stamp for stamp, _ in messages["rgb"]]
    assert stamps[12] - stamps[11] == 51 * STEP_NS
    assert len(messages["action"]) == STEPS - 2


def test_a_bag_is_what_ros2_bag_play_takes(bag: Path) -> None:
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (metadata["version"], metadata["storage_identifier"], metadata["compression_mode"]) == (9, "mcap", "")
    assert metadata["relative_file_paths"] == ["peg.mcap"]
    types = {
        one["topic_metadata"]["name"]: one["topic_metadata"]["type"] for one in metadata["topics_with_message_count"]
    }
    assert types == {
        "/rgb/image": "sensor_msgs/msg/Image",
        "/depth/image": "sensor_msgs/msg/Image",
        "/depth/camera_info": "sensor_msgs/msg/CameraInfo",
        "/wrench": "geometry_msgs/msg/WrenchStamped",
        "/action": "geometry_msgs/msg/TwistStamped",
    }
    content = (bag / "peg.mcap").read_bytes()
    assert content.startswith(b"\x89MCAP0\r\n") and b"\x04\x00\x00\x00zstd" in content


def test_the_same_trajectory_gives_the_same_bytes(bag: Path, logs: Path, tmp_path: Path) -> None:
    write_bag(find_trajectories(logs)[0], tmp_path / "peg", fov=26.5)
    assert bag_hash(tmp_path / "peg") == bag_hash(bag)


def test_a_damaged_log_leaves_nothing_behind(logs: Path, tmp_path: Path) -> None:
    for path in logs.iterdir():
        shutil.copy(path, tmp_path)
    second = sorted(tmp_path.iterdir())[1]
    second.write_bytes(second.read_bytes()[:5000])
    with pytest.raises(LogError, match=second.name):
        write_bag(find_trajectories(tmp_path)[0], tmp_path / "bag", fov=26.5)
    assert [path.suffix for path in tmp_path.iterdir()] == [".h5", ".h5"]


def test_a_bag_that_is_there_is_not_overwritten(bag: Path, logs: Path) -> None:
    before = bag_hash(bag)
    with pytest.raises(BagError, match="exists already"):
        write_bag(find_trajectories(logs)[0], bag, fov=26.5)
    assert bag_hash(bag) == before


def test_a_trajectory_is_picked_by_one_of_its_files_or_by_name(logs: Path, tmp_path: Path) -> None:
    for path in logs.iterdir():
        shutil.copy(path, tmp_path)
        shutil.copy(path, tmp_path / path.name.replace("_7_", "_8_"))
    one = sorted(tmp_path.glob("*_8_*"))[1]
    assert [path for _, path in pick_trajectory(one).parts] == sorted(tmp_path.glob("*_8_*"))
    assert pick_trajectory(tmp_path, "triangle_0_journal_7").name == "triangle_0_journal_7"
    for name in (None, "square_0_journal_7"):
        with pytest.raises(
            BagError, match=f"one trajectory among triangle_0_journal_7, triangle_0_journal_8, found {name or 'none'}"
        ):
            pick_trajectory(tmp_path, name)


def test_the_command_writes_a_bag(logs: Path, bag: Path, tmp_path: Path) -> None:
    done = smvae("bag", sorted(logs.iterdir())[0], "--out", tmp_path / "new" / "peg", run=subprocess.run)
    assert (done.returncode, done.stderr) == (0, "")
    assert "triangle_0_journal_7: 1133 messages" in done.stdout
    assert bag_hash(tmp_path / "new" / "peg") == bag_hash(bag)


def test_the_command_refuses_a_foreign_log_in_one_sentence(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "log.h5", "w") as file:
        file["image"] = np.zeros((3, 64, 64), np.uint8)
    done = smvae("bag", tmp_path / "log.h5", "--out", tmp_path / "peg")
    assert done.returncode == 2
    assert "log.h5: key 'image' expected shape (T, any, any, 3), found (3, 64, 64)" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["log.h5"]

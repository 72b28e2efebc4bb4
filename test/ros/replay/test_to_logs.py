"""Bags as training data: a recording becomes logs from which the trainer gets what the node would have seen."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from smvae_core.data.formats.vision_touch import find_trajectories
from smvae_core.data.samples import Samples, read_samples
from smvae_core.modality import Modality, vision_touch_modalities
from smvae_core.preprocessing import RGB, Vector
from smvae_ros.bags.from_logs import STEP_NS
from smvae_ros.replay.to_logs import LogWriteError, write_logs
from smvae_ros.settings import default_settings

from ..command import smvae

MODALITIES = vision_touch_modalities()


def samples_of(folder: Path) -> Samples:
    return read_samples(find_trajectories(folder), MODALITIES)


def test_a_log_made_a_bag_made_a_log_gives_the_same_samples(logs: Path, bag: Path, tmp_path: Path) -> None:
    files = write_logs(bag, MODALITIES, default_settings(MODALITIES), tmp_path / "again").files
    before, after = samples_of(logs), samples_of(tmp_path / "again")
    assert len(files) == 1 and files[0].name == "20190408_183041_peg_0_0_50.h5"
    assert len(after) == len(before) == 21
    np.testing.assert_array_equal(after.available, before.available)
    for name, tolerance in (("rgb", 0.0), ("depth", 6e-4), ("force", 1e-6), ("action", 1e-6)):
        ours, theirs = (s.batch(np.arange(20))[0][name].numpy() for s in (after, before))
        np.testing.assert_allclose(ours, theirs, atol=tolerance, err_msg=name)


def test_a_sensor_that_comes_and_goes_cuts_the_recording_into_trajectories(
    bag: Path, edited: Callable[..., Path], tmp_path: Path
) -> None:
    def without_depth_in_the_middle(
        topic: str, number: int, log_ns: int, content: bytes
    ) -> Iterator[tuple[int, bytes]]:
        if topic != "/depth/image" or not 7 <= number < 14:
            yield log_ns, content

    write_logs(edited(bag, without_depth_in_the_middle), MODALITIES, default_settings(MODALITIES), tmp_path / "logs")
    samples = samples_of(tmp_path / "logs")
    depth = samples.available[:, 1]
    assert [int((samples.trajectory == t).sum()) for t in range(3)] == [7, 7, 7]
    assert [bool(depth[samples.trajectory == t].all()) for t in range(3)] == [True, False, True]
    assert not depth[samples.trajectory == 1].any()


def test_a_pause_ends_a_trajectory(bag: Path, edited: Callable[..., Path], tmp_path: Path) -> None:
    def paused(topic: str, number: int, log_ns: int, content: bytes) -> Iterator[tuple[int, bytes]]:
        # Steps 8 to 17 are not in the recording.
        if not 8 * STEP_NS < log_ns - start_ns <= 17 * STEP_NS:
            yield log_ns, content

    start_ns = int(np.datetime64("2019-04-08T18:30:41", "ns").astype(np.int64))
    write_logs(edited(bag, paused), MODALITIES, default_settings(MODALITIES), tmp_path / "logs")
    samples = samples_of(tmp_path / "logs")
    assert len(samples.names) == 2, "half a second of silence is no step of a twentieth"


def test_other_modalities_keep_their_own_keys(bag: Path, tmp_path: Path) -> None:
    camera = Modality(
        name="eye", source="wrist_image", preprocessing=RGB(size=32), network="image", likelihood="bernoulli"
    )
    command = Modality(name="push", source="push", preprocessing=Vector(size=4), network="vector", likelihood="normal")
    settings = default_settings([camera, command])
    settings = settings.changed({"streams": {"eye": {"topic": "rgb/image"}, "push": {"topic": "action"}}})
    (file, *_) = write_logs(bag, [camera, command], settings, tmp_path / "logs").files
    with h5py.File(file) as content:
        assert {key: (content[key].shape[1:], content[key].dtype) for key in content} == {
            "wrist_image": ((32, 32, 3), np.uint8),
            "push": ((4,), np.float32),
        }


def test_nothing_is_overwritten_and_nothing_is_an_error(bag: Path, edited: Callable[..., Path], tmp_path: Path) -> None:
    settings = default_settings(MODALITIES)
    write_logs(bag, MODALITIES, settings, tmp_path / "logs")
    with pytest.raises(LogWriteError, match="no logs of a bag named peg, found 20190408_183041_peg_0_0_50.h5"):
        write_logs(bag, MODALITIES, settings, tmp_path / "logs")
    assert write_logs(bag, MODALITIES, settings, tmp_path / "logs", name="other").files
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(LogWriteError, match="file: the logs cannot be written"):
        write_logs(bag, MODALITIES, settings, file)


def test_a_bag_that_ends_in_an_error_leaves_nothing(bag: Path, tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_logs(bag, MODALITIES, default_settings(MODALITIES), tmp_path / "logs", stop)
    assert not (tmp_path / "logs").exists()


def test_bags_of_one_name_stay_apart_and_a_bad_one_is_told(bag: Path, tmp_path: Path) -> None:
    for day in ("monday", "tuesday"):
        shutil.copytree(bag, tmp_path / "bags" / day / "run")
    (tmp_path / "bags" / "bad.db3").write_text("hello")
    done = smvae("log", tmp_path / "bags" / "monday", *(tmp_path / "bags").iterdir(), "--out", tmp_path / "logs")
    assert done.returncode == 3
    assert "42 sets, 42 rows, 2 trajectories" in done.stdout
    assert done.stderr.startswith("error: 1 of 3 bags could not be turned into logs:") and "bad.db3" in done.stderr
    assert [trajectory.name for trajectory in find_trajectories(tmp_path / "logs")] == ["monday_run_0", "tuesday_run_0"]
    again = smvae("log", tmp_path / "bags", "--out", tmp_path / "logs")
    assert again.returncode == 2 and "expected no logs of a bag named monday_run, found 2019" in again.stderr


def test_the_command_makes_logs_that_train(bag: Path, tmp_path: Path) -> None:
    command = ["smvae", "log", str(bag), "--out", "logs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "21 sets, 21 rows, 1 trajectory" in done.stdout
    assert len(samples_of(tmp_path / "logs")) == 21

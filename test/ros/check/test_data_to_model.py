"""Data of other projects, with cameras and one file that was cut off, go through every command to a model."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from ...core.robot_data import numbers, picture, write_aloha, write_robomimic
from ..command import smvae

STEPS = 9


def aloha(folder: Path) -> Path:
    """Episodes with JPEGs, as ALOHA stores them compressed."""
    return sorted(write_aloha(folder, [STEPS] * 3, compressed=True).iterdir())[1]


def robomimic(folder: Path) -> Path:
    """A folder for each task with a file of the same name, as robomimic's own downloads."""
    return [write_robomimic(folder / task / "image.hdf5", [STEPS]) for task in ("can", "lift", "square")][1]


def any_keys(folder: Path) -> Path:
    """A folder for each day, with files of either suffix."""
    paths = [folder / "monday" / "a.h5", folder / "monday" / "b.hdf5", folder / "tuesday" / "c.h5"]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["robot/left/joints"], file["robot/command"] = numbers(number, STEPS)
            file["camera/front/rgb"] = np.stack([picture(number, step) for step in range(STEPS)])
    return paths[1]


@pytest.mark.parametrize("make", [aloha, robomimic, any_keys])
def test_data_with_a_file_that_was_cut_off_become_a_model_without_it(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    data, config, run = tmp_path / "data", tmp_path / "robot.yaml", tmp_path / "run"
    cut = make(data)
    cut.write_bytes(cut.read_bytes()[:3000])
    done = smvae("check", data, "--write", tmp_path / "robot")
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert "1 of 3 episodes that were looked at cannot be used" in done.stderr and str(cut) in done.stderr
    modalities = yaml.safe_load(config.read_text())["model"]["modalities"]
    assert {"vector", "rgb"} == {one["preprocessing"]["kind"] for one in modalities}
    train = ("train", "--data", data, "--config", config, "--out", run, "--epochs", 1, "--device", "cpu")
    refused = smvae(*train)
    assert refused.returncode == 2 and str(cut) in refused.stderr and "Traceback" not in refused.stderr
    assert not run.exists()
    done = smvae(*train, "--skip-bad")
    assert done.returncode == 0 and f"left out: {cut}" in done.stdout, done.stderr
    judge = ("evaluate", run, "--data", data, "--held-out", "--most", 6, "--draws", 1, "--device", "cpu")
    refused = smvae(*judge)
    assert refused.returncode == 2 and str(cut) in refused.stderr and "Traceback" not in refused.stderr
    done = smvae(*judge, "--skip-bad", "--out", tmp_path / "figures")
    assert done.returncode == 0 and (tmp_path / "figures" / "predictions.png").exists(), done.stderr
    told = smvae("info", run)
    assert told.returncode == 0 and all(one["name"] in told.stdout for one in modalities)

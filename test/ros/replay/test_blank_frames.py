"""In a replay a blank frame counts as an absent one, and the summary says so."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from smvae_core.data.formats.vision_touch import find_trajectories
from smvae_ros.bags.from_logs import write_bag
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.run import replay


@pytest.mark.parametrize(("name", "key", "blank"), [("depth", "depth_data", np.nan), ("rgb", "image", 30)])
def test_a_blank_camera_gives_the_latents_of_an_absent_one(
    name: str, key: str, blank: float, logs: Path, bag: Path, checkpoint: Path, tmp_path: Path
) -> None:
    blind = shutil.copytree(logs, tmp_path / "logs")
    for path in blind.glob("*.h5"):
        with h5py.File(path, "r+") as file:
            file[key][...] = blank
    write_bag(find_trajectories(blind)[0], tmp_path / "bag", fov=26.5)
    found = replay(tmp_path / "bag", tmp_path / "found", ReplayJob(checkpoint, device="cpu"))
    replay(bag, tmp_path / "expected", ReplayJob(checkpoint, device="cpu", faults={"drop": (name,)}))
    blank_rows, absent_rows = (
        {row["stamp_ns"]: row for row in pq.read_table(tmp_path / out / "sets.parquet").to_pylist()}
        for out in ("found", "expected")
    )
    shared = blank_rows.keys() & absent_rows.keys()
    if name == "depth":
        assert shared == blank_rows.keys() == absent_rows.keys()
    else:
        # Without the reference, ticks of the clock open the sets, and their stamps are others.
        assert not any(row["present_rgb"] for row in blank_rows.values())
    for stamp_ns in shared:
        one, other = blank_rows[stamp_ns], absent_rows[stamp_ns]
        assert not one[f"present_{name}"]
        np.testing.assert_allclose(one["mean"], other["mean"], atol=1e-6)
        np.testing.assert_allclose(one["log_variance"], other["log_variance"], atol=1e-6)
    assert found.streams[name].rejected == found.sets
    assert any(f"{found.sets} sets had to do without {name}: {name}: expected at least" in w for w in found.warnings)
    for row in found.evaluation.subsets:
        assert name not in row.mse, "a blank frame is no truth to judge predictions by"

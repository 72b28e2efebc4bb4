"""Several bags in one command: each has its results, the bad ones are told, the exit code says so."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from smvae_core.errors import ConfigurationError, SMVAEError
from smvae_core.evaluation import Evaluation, SubsetErrors
from smvae_ros.bags import BagError
from smvae_ros.replay.many import ReplayJob, _together, named_bags, replay_many
from smvae_ros.replay.summary import BagResult, ReplaysSummary

from .command import smvae

STEPS = 21


def test_a_folder_with_bad_bags_in_it(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    bags = tmp_path / "bags"
    shutil.copytree(bag, bags / "monday" / "first")
    shutil.copytree(bag, bags / "tuesday" / "second")
    (bags / "tuesday" / "empty.mcap").touch()
    (bags / "wrong.db3").write_text("hello")
    done = smvae(
        *("replay", bags, "--checkpoint", checkpoint, "--out", tmp_path / "out", "--device", "cpu", "--workers", 2),
        *("--drop", "depth", "--write-bag"),
    )
    assert done.returncode == 3
    told = " ".join(done.stderr.split())
    assert told.startswith("error: 2 of 4 bags could not be replayed:")
    assert "empty.mcap: is empty" in told and "file is not a database" in told and "Traceback" not in told
    assert "monday/first: 21 sets" in done.stdout and "predicted from" in done.stdout
    summary = ReplaysSummary.model_validate_json((tmp_path / "out" / "summary.json").read_bytes())
    assert [result.bag for result in summary.bags] == ["monday/first", "tuesday/empty", "tuesday/second", "wrong"]
    assert [result.folder for result in summary.bags] == ["monday/first", None, "tuesday/second", None]
    assert summary.sets == 2 * STEPS and summary.evaluation.samples == 2 * STEPS
    for folder in ("monday/first", "tuesday/second"):
        results = tmp_path / "out" / folder
        assert pq.read_metadata(results / "sets.parquet").num_rows == STEPS
        assert (results / "fusion" / "fusion.mcap").exists()
        assert json.loads((results / "summary.json").read_text())["what_if"]["drop"][0]["modality"] == "depth"
    assert not (tmp_path / "out" / "wrong").exists() and not (tmp_path / "out" / "tuesday" / "empty").exists()


def test_what_is_wrong_with_the_command_is_told_once_and_nothing_begins(
    bag: Path, checkpoint: Path, tmp_path: Path
) -> None:
    told: list[BagResult] = []
    named = {"a": bag, "b": bag}
    for job, sentence in (
        (ReplayJob(checkpoint=tmp_path / "none.safetensors"), "no such checkpoint"),
        (ReplayJob(checkpoint=checkpoint, drop=("sonar",)), "expected a sense among"),
        (ReplayJob(checkpoint=checkpoint, changes=({"streams": {"sonar": {}}},)), "expected settings of rgb"),
        (ReplayJob(checkpoint=checkpoint, changes=({"streams": {"rgb": {"message": "X"}}},)), "streams.rgb.message"),
    ):
        with pytest.raises(SMVAEError, match=sentence):
            replay_many(named, tmp_path / "out", job, 1, told.append)
    assert not told and not (tmp_path / "out").exists()
    with pytest.raises(ConfigurationError):
        ReplayJob(checkpoint=checkpoint, changes=({"streams": 1},)).check()


def test_results_are_named_by_the_bags(bag: Path, tmp_path: Path) -> None:
    for folder in ("x/run", "y/run"):
        shutil.copytree(bag, tmp_path / folder)
    (tmp_path / "y" / "extra_0.mcap").touch()
    assert named_bags([tmp_path / "x" / "run"]) == {"run": tmp_path / "x" / "run"}
    assert named_bags([tmp_path]) == {
        "x/run": tmp_path / "x" / "run",
        "y/extra_0": tmp_path / "y" / "extra_0.mcap",
        "y/run": tmp_path / "y" / "run",
    }
    assert list(named_bags([tmp_path / "x" / "run", tmp_path / "y" / "run"])) == ["run", "run_2"]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(BagError, match="nothing: expected a rosbag2 or a folder of them, found none"):
        named_bags([bag, tmp_path / "nothing"])


def test_all_together_weigh_by_their_sets() -> None:
    def row(samples: int, mse: float, share: float) -> SubsetErrors:
        return SubsetErrors(subset=("rgb",), samples=samples, mse={"rgb": mse}, share={"rgb": share})

    none = SubsetErrors(subset=("rgb",), samples=0, mse={}, share={})
    rows = (row(10, 1.0, 0.5), row(30, 2.0, 0.25), none)
    (together,) = _together([Evaluation(samples=40, subsets=(one,)) for one in rows]).subsets
    assert together.samples == 40
    assert together.mse["rgb"] == pytest.approx((10 * 1.0 + 30 * 2.0) / 40)
    # The training mean's errors were 2 and 8.
    assert together.share["rgb"] == pytest.approx((10 * 1.0 + 30 * 2.0) / (10 * 2.0 + 30 * 8.0))
    assert _together([]) is None

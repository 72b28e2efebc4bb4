"""Several bags in one command: each has its results, the bad ones are told, the exit code says so."""

import importlib
import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from smvae_core.configuration import Configuration
from smvae_core.errors import ConfigurationError, SMVAEError
from smvae_ros.bags.naming import named_bags
from smvae_ros.bags.reading import BagError
from smvae_ros.jobs import Done, Task, run_job, run_jobs
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.logs_of_bags import write_logs_of_bags
from smvae_ros.replay.summary import ReplaysSummary
from smvae_ros.report.replays import replay_many
from smvae_ros.settings import default_settings

from ...programs import Program
from ..command import command, smvae

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
        assert json.loads((results / "summary.json").read_text())["what_if"]["faults"][0]["modality"] == "depth"
    assert not (tmp_path / "out" / "wrong").exists() and not (tmp_path / "out" / "tuesday" / "empty").exists()


def test_what_is_wrong_with_the_command_is_told_once_and_nothing_begins(
    bag: Path, checkpoint: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    named = {"a": bag, "b": bag}
    for job, sentence in (
        (ReplayJob(checkpoint=tmp_path / "none.safetensors"), "no such checkpoint"),
        (ReplayJob(checkpoint=checkpoint, faults={"drop": ("sonar",)}), "expected a modality among"),
        (ReplayJob(checkpoint=checkpoint, changes=({"streams": {"sonar": {}}},)), "expected settings of rgb"),
        (ReplayJob(checkpoint=checkpoint, changes=({"streams": {"rgb": {"message": "X"}}},)), "streams.rgb.message"),
    ):
        with pytest.raises(SMVAEError, match=sentence):
            replay_many(named, tmp_path / "out", job, lambda: told.append("a bag"))
    assert not told and not (tmp_path / "out").exists()
    with pytest.raises(ConfigurationError):
        ReplayJob(checkpoint=checkpoint, changes=({"streams": 1},)).check()


def test_ctrl_c_begins_no_other_bag_and_leaves_no_half_of_one(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    for number in range(6):
        shutil.copytree(bag, tmp_path / "bags" / f"bag{number}")
    arguments = ["replay", "bags", "--checkpoint", str(checkpoint), "--out", "out", "--device", "cpu", "--workers", "2"]
    running = Program(
        command(*arguments),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not any((tmp_path / "out").glob("*/.replay.*")):
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended with {running.wait(0.01)} before a bag was begun")
    os.killpg(running.pid, signal.SIGINT)
    _, told = running.communicate()
    assert (running.returncode, told) == (130, "interrupted\n")
    assert len(list((tmp_path / "out").glob("*/report.html"))) <= 2
    assert not list((tmp_path / "out").glob("*/.*")) and not (tmp_path / "out" / "summary.json").exists()
    assert all(any(folder.iterdir()) for folder in tmp_path.rglob("out*")), "no empty folder stays"


def test_after_an_interrupt_no_empty_folder_stays(
    bag: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    bags, out = {"day/a": bag, "day/b": bag}, tmp_path / "some" / "out"
    monkeypatch.setattr("smvae_ros.report.replays.run_jobs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replay_many(bags, out, ReplayJob(checkpoint=checkpoint), lambda: None)
    monkeypatch.setattr("smvae_ros.replay.logs_of_bags.run_jobs", interrupted)
    modalities = Configuration().model.modalities
    with pytest.raises(KeyboardInterrupt):
        write_logs_of_bags(bags, modalities, default_settings(modalities), out, lambda: None)
    assert not (tmp_path / "some").exists()


def refusing(name: str, bag: Path, threads: int) -> str:
    raise ConfigurationError("streams.odd: expected a field" if name == "a" else f"{bag}: is empty")


@pytest.mark.parametrize(
    ("name", "sentence"), [("a", "bags/a: streams.odd: expected a field"), ("b", "bags/b: is empty")]
)
def test_each_sentence_on_a_bad_bag_names_the_bag_once(name: str, sentence: str) -> None:
    assert run_job(Task(refusing), 1, name, Path("bags") / name).error == sentence


def failing(name: str, bag: Path, threads: int) -> str:
    raise RuntimeError("cannot reshape")


def test_a_defect_that_one_bag_meets_is_told_and_takes_no_other_along() -> None:
    done = run_job(Task(failing), 1, "a", Path("bags/a"))
    assert done.result is None
    assert "bags/a: a defect of smvae, RuntimeError in test_jobs.py, line" in (done.error or "")


KILLED = """
import os, signal

def killed_at_b(once, name, bag, threads):
    'A task whose process is killed at bag b; at bag c only the first time.'
    if name == "b" or (name == "c" and not once.exists()):
        if name == "c":
            once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return name.upper()
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bag_whose_process_is_killed_is_tried_again_and_stops_no_other(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a file of its own: the processes cannot import the tests by their names.
    (tmp_path / f"killed_{workers}.py").write_text(KILLED)
    monkeypatch.syspath_prepend(tmp_path)
    task = importlib.import_module(f"killed_{workers}").killed_at_b
    bags = {name: tmp_path / name for name in "abcd"}
    told: list[str] = []
    done = run_jobs(Task(partial(task, tmp_path / "once")), bags, lambda one: told.append(one.name), workers)
    assert [one.result for one in done] == ["A", None, "C", "D"]
    assert done[1].error == f"{tmp_path / 'b'}: its process was killed twice, as for want of memory"
    assert sorted(told) == list("abcd"), "each is told once"


INTERRUPTED = """
def touch(folder, name, bag, threads):
    (folder / name).touch()

def remove(folder, name):
    (folder / name).unlink(missing_ok=True)
"""


def test_after_an_interrupt_finished_bags_stay_and_nothing_is_left_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("interrupted")
    (folder := tmp_path / "out").mkdir()
    task = Task(partial(module.touch, folder), partial(module.remove, folder))

    def interrupt(one: Done[None]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(task, dict.fromkeys("abcd", tmp_path), interrupt, workers=1)
    assert [file.name for file in folder.iterdir()] == ["a"]


def test_what_a_killed_process_left_is_removed(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    left = tmp_path / "out" / "a" / ".replay.left"
    left.mkdir(parents=True)
    replay_many({"a": bag, "b": tmp_path}, tmp_path / "out", ReplayJob(checkpoint=checkpoint), lambda: None)
    assert not left.exists() and (tmp_path / "out" / "a" / "report.html").exists()
    assert not (tmp_path / "out" / "b").exists()


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
    both = {"x/run": tmp_path / "x" / "run", "y/run": tmp_path / "y" / "run"}
    assert named_bags(list(both.values())) == both
    assert named_bags([tmp_path / "y", tmp_path / "x"]).keys() == {"extra_0", *both}
    (tmp_path / "x_run.mcap").touch()
    assert named_bags([tmp_path], between="_").keys() == {"x_run", "x_run_2", "y_extra_0", "y_run"}, "none is lost"
    (tmp_path / "nothing").mkdir()
    with pytest.raises(BagError, match="nothing: expected a rosbag2 or a folder of them, found none"):
        named_bags([bag, tmp_path / "nothing"])


def test_a_bag_named_twice_is_one_and_results_are_none(bag: Path, tmp_path: Path) -> None:
    run = shutil.copytree(bag, tmp_path / "run")
    (tmp_path / "latest").symlink_to(run)
    results = shutil.copytree(bag, tmp_path / "results" / "run" / "fusion")
    (results.parent / "sets.parquet").touch()
    assert named_bags([tmp_path]) == named_bags([tmp_path, run, run / "metadata.yaml"]) == {"run": run}
    assert named_bags([results]) == {"fusion": results}, "what is named itself is meant"

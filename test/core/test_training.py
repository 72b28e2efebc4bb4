"""The trainer and the command line, as real processes."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from smvae_core import checkpoint
from smvae_core.configuration import Configuration, load_configuration
from smvae_core.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
TINY = {"model": {"size": "tiny"}, "training": {"batch_size": 20}, "objective": {"anneal_epochs": 2}}


def smvae(*arguments: object, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=environment(), **options)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "smvae_core.cli", *map(str, arguments)]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def tiny(tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture
def run(tmp_path, logs, tiny) -> Path:
    finished = smvae("train", "--data", logs, "--out", tmp_path / "run", "--config", tiny, "--epochs", 2)
    assert finished.returncode == 0, finished.stderr
    assert "epoch   2" in finished.stdout and "rgb + depth + force + action" in finished.stdout
    return tmp_path / "run"


def test_training_leaves_a_checkpoint_with_held_out_figures(run):
    metadata = checkpoint.load(run / "best.safetensors").metadata
    assert len(metadata.metrics.subsets) == 15
    assert metadata.metrics.samples == 17
    assert metadata.training.samples == 51
    assert len(metadata.training.held_out) == 1
    assert metadata.training.commands[0].startswith("smvae train --data")
    assert checkpoint.load(run / "last.safetensors").metadata.training.epochs == 2
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert load_configuration(run / "configuration.yaml").training.epochs == 2


def test_the_same_seed_trains_the_same_weights(run, tmp_path, logs):
    again = smvae("train", "--data", logs, "--out", tmp_path / "again", "--config", run / "configuration.yaml")
    assert again.returncode == 0, again.stderr
    first, second = (checkpoint.load(p / "last.safetensors").model.state_dict() for p in (run, tmp_path / "again"))
    assert all((first[name] == second[name]).all() for name in first)


def test_a_trained_checkpoint_is_evaluated_and_described(run, logs, tmp_path):
    judged = smvae("evaluate", run / "best.safetensors", "--data", logs, "--out", tmp_path / "figures.json")
    assert judged.returncode == 0, judged.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["samples"] == 68 and len(figures["subsets"]) == 15
    told = smvae("info", run / "best.safetensors")
    assert told.returncode == 0 and "smvae train" in told.stdout and "3×64×64" in told.stdout


def test_a_run_is_never_overwritten(run, logs, tiny):
    before = (run / "best.safetensors").read_bytes()
    again = smvae("train", "--data", logs, "--out", run, "--config", tiny, "--epochs", 1)
    assert again.returncode == 2 and "expected a folder without a run" in again.stderr
    assert (run / "best.safetensors").read_bytes() == before


def test_ctrl_c_saves(tmp_path, logs, tiny):
    arguments = ("train", "--data", logs, "--out", tmp_path / "run", "--config", tiny, "--epochs", 100_000)
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, text=True, env=environment())
    for line in process.stdout:
        if line.startswith("epoch   1"):
            process.send_signal(signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait(timeout=60) == 130
    assert "everything learned so far is in" in rest
    assert checkpoint.load(tmp_path / "run" / "last.safetensors").metadata.training.epochs >= 1


@pytest.mark.parametrize(
    "content, sentence",
    [
        ("training: {epoch: 3}", "unknown key 'training.epoch'"),
        ("trainig: {}", "unknown key 'trainig'"),
        ("training: {epochs: 0}", "'training.epochs': Input should be greater than 0, found 0"),
        ("model: {size: huge}", "'model.size'"),
        ("- a", "expected a mapping"),
        ("a: [", "expected YAML"),
    ],
)
def test_a_bad_configuration_is_told_by_file_and_key(tmp_path, logs, content, sentence):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=f"bad.yaml: .*{re.escape(sentence)}"):
        load_configuration(path)
    refused = smvae("train", "--data", logs, "--out", tmp_path / "run", "--config", path)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert not (tmp_path / "run").exists()


def test_the_shipped_configuration_is_the_default():
    assert load_configuration(ROOT / "config" / "vision_touch.yaml") == Configuration()


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("train", "--data", "nowhere", "--out", "run"), "nowhere: no such file or folder"),
        (("evaluate", "nothing.safetensors", "--data", "."), "nothing.safetensors: no such checkpoint"),
        (("info", "nothing.safetensors"), "nothing.safetensors: no such checkpoint"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, arguments, sentence):
    refused = smvae(*arguments, cwd=tmp_path)
    assert refused.returncode == 2
    assert sentence in refused.stderr and "Traceback" not in refused.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["simulate", "train", "evaluate", "info"])
def test_help_teaches(name):
    told = smvae(name, "--help")
    assert told.returncode == 0 and f"Example: smvae {name}" in told.stdout

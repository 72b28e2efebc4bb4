"""The trainer and the command line, as real processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from smvae_core import checkpoint
from smvae_core.cli.exit import Commands
from smvae_core.cli.exit import run as run_application
from smvae_core.configuration import Configuration, load_configuration
from smvae_core.errors import ConfigurationError

from ... import programs
from ..conftest import SMALL, write_log

ROOT = Path(__file__).parents[3]
TINY = {
    "model": {"size": "tiny", "modalities": SMALL},
    "training": {"batch_size": 20},
    "objective": {"anneal_epochs": 2},
}


def smvae(*arguments: object, run=programs.run, **options) -> subprocess.CompletedProcess:
    """Run a command to its end; `run=subprocess.run` starts Python itself, as the test of --help does for each."""
    return run(command(*arguments), capture_output=True, text=True, env=environment(), **options)


def _one(source: str, preprocessing: str, network: str, likelihood: str) -> str:
    """A configuration of one modality."""
    return (
        f"model: {{modalities: [{{name: x, source: {source}, preprocessing: {preprocessing}, network: {network}, "
        f"likelihood: {likelihood}}}]}}"
    )


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "smvae_core.cli", *map(str, arguments)]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("configuration") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, shared_logs, tiny) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    finished = smvae(
        "train", "--data", shared_logs, "--out", folder, "--config", tiny, "--epochs", 2, run=subprocess.run
    )
    assert finished.returncode == 0, finished.stderr
    assert "epoch   2" in finished.stdout and "rgb + depth + force + action" in finished.stdout
    return folder


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


def test_the_same_seed_trains_the_same_weights(run, tmp_path, shared_logs):
    again = smvae("train", "--data", shared_logs, "--out", tmp_path / "again", "--config", run / "configuration.yaml")
    assert again.returncode == 0, again.stderr
    first, second = (checkpoint.load(p / "last.safetensors").model.state_dict() for p in (run, tmp_path / "again"))
    assert all((first[name] == second[name]).all() for name in first)


def test_the_model_card_tells_data_settings_figures_and_shows_pictures(run):
    card = (run / "README.md").read_text()
    assert "51 training samples of 4 trajectories" in card and "smvae train --data" in card
    # A line for each subset with rgb, of errors and of calibration.
    assert card.count("\n| rgb") == 2 * 8 and "batch_size: 20" in card
    assert "z² is 1 where σ is right" in card and "the later half of the same trajectory" in card
    pictures = re.findall(r"!\[.*\]\((.*)\)", card)
    assert len(pictures) == 4 and all((run / picture).stat().st_size > 1000 for picture in pictures)


def test_tensorboard_shows_terms_by_modality_and_subset_size_and_pictures(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"training/loss", "training/kl", "training/log p(rgb)", "learning_rate", "score"} <= set(tags["scalars"])
    assert "training/log p(depth) from 4" in tags["scalars"] and "held_out/force from rgb" in tags["scalars"]
    assert {"calibration/z2 of rgb+depth", "calibration/90 % of force from rgb"} <= set(tags["scalars"])
    assert [point.step for point in events.Scalars("training/loss")] == [1, 2]
    assert tags["images"] == ["predictions"] and len(events.Images("predictions")) == 2


def test_runs_are_listed_with_their_figures(run):
    told = smvae("runs", run.parent)
    assert told.returncode == 0, told.stderr
    score = min(json.loads(line)["score"] for line in (run / "metrics.jsonl").read_text().splitlines())
    assert "run" in told.stdout and "2/2" in told.stdout and f"{score:.3f}" in told.stdout


def test_a_damaged_run_is_told_beside_the_others(run, tmp_path):
    shutil.copytree(run, tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "best.safetensors").write_text("hello")
    told = smvae("runs", tmp_path)
    assert told.returncode == 3 and "good" in told.stdout
    assert "error: 1 of 2 runs could not be read:" in told.stderr and "bad/best.safetensors" in told.stderr


def test_a_trained_run_is_judged_and_described(run, shared_logs, tmp_path):
    arguments = ("evaluate", run, "--data", shared_logs, "--most", 20, "--out", tmp_path / "figures")
    judged = smvae(*arguments)
    assert judged.returncode == 0, judged.stderr
    figures = json.loads((tmp_path / "figures" / "figures.json").read_text())
    assert figures["evaluation"]["samples"] == 20 and len(figures["evaluation"]["subsets"]) == 15
    assert len(figures["probes"]) == 15 and len(figures["robustness"]) == 4 * 3 * 10
    assert all((tmp_path / "figures" / name).exists() for name in ("subsets.png", "robustness.png", "reliability.png"))
    page = (tmp_path / "figures" / "report.html").read_text()
    pictures = re.findall(r'src="([^"]+)"', page)
    assert pictures == ["predictions.png", "subsets.png", "reliability.png", "robustness.png"]
    assert all(1000 < (tmp_path / "figures" / name).stat().st_size < 400_000 for name in pictures)
    assert all(f"<td>{name}</td>" in page for name in ("rgb", "depth", "force", "action"))
    assert "report.html" in judged.stdout
    calibration = figures["calibration"]
    assert len(calibration["subsets"]) == 15 and not set(calibration["fitted_on"]) & set(calibration["tested_on"])
    for words in (
        "log-likelihood in nats",
        "calibration: z²",
        "contact accuracy",
        "as a step before",
        "depth, missing",
    ):
        assert words in judged.stdout
    assert "looks like the training data of the model; --held-out" in judged.stdout
    told = smvae("info", run)
    assert told.returncode == 0 and "smvae train" in told.stdout and "3×32×32" in told.stdout
    assert "calibration: z²" in told.stdout and "later half of the same trajectory" in " ".join(told.stdout.split())


def test_a_run_is_judged_on_what_it_held_out(run, shared_logs, tmp_path):
    arguments = ("evaluate", run, "--held-out", "--most", 10, "--draws", 1, "--out", tmp_path / "figures")
    judged = smvae(*arguments, "--data", shared_logs)
    assert judged.returncode == 0, judged.stderr
    assert json.loads((tmp_path / "figures" / "figures.json").read_text())["evaluation"]["samples"] == 10
    assert "looks like" not in judged.stdout
    write_log(tmp_path / "other.h5", 5)
    refused = smvae(*arguments, "--data", tmp_path)
    assert refused.returncode == 2 and "of which it held out triangle_0_journal_" in refused.stderr


def test_the_command_line_names_the_system(tmp_path, shared_logs, tiny):
    arguments = ("--data", shared_logs, "--out", tmp_path / "run", "--config", tiny, "--epochs", 1)
    finished = smvae("train", "--system", "mmvae", *arguments)
    assert finished.returncode == 0, finished.stderr
    assert "system mmvae, tiny networks" in finished.stdout
    assert "\n\n" not in finished.stdout  # no traces of bars where there is no terminal
    assert checkpoint.load(tmp_path / "run" / "best.safetensors").metadata.model.system == "mmvae"
    refused = smvae("train", "--system", "vae", *arguments)
    assert refused.returncode == 2 and "crmvae" in refused.stderr


def test_a_run_is_never_overwritten(run, shared_logs, tiny):
    before = (run / "best.safetensors").read_bytes()
    again = smvae("train", "--data", shared_logs, "--out", run, "--config", tiny, "--epochs", 1)
    assert again.returncode == 2 and "expected a folder without a run" in again.stderr
    assert (run / "best.safetensors").read_bytes() == before


def test_ctrl_c_saves_and_resume_goes_on(tmp_path, shared_logs, tiny):
    arguments = ("train", "--data", shared_logs, "--out", tmp_path / "run", "--config", tiny)
    process = programs.Program(
        command(*arguments, "--epochs", 100_000), stdout=subprocess.PIPE, text=True, env=environment()
    )
    for line in process.stdout:
        if line.startswith("epoch   1"):
            process.send_signal(signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait(timeout=60) == 130
    assert "everything learned so far is in" in rest and "--resume" in rest
    epochs = checkpoint.load(tmp_path / "run" / "last.safetensors").metadata.training.epochs
    assert epochs >= 1
    resumed = smvae(*arguments, "--resume", "--epochs", epochs + 1)
    assert resumed.returncode == 0, resumed.stderr
    assert f"going on after epoch {epochs}" in resumed.stdout
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, epochs + 2))


@pytest.mark.parametrize(
    "content, sentence",
    [
        ("training: {epoch: 3}", "unknown key 'training.epoch'"),
        ("trainig: {}", "unknown key 'trainig'"),
        ("training: {epochs: 0}", "'training.epochs': Input should be greater than 0, found 0"),
        ("model: {size: huge}", "'model.size'"),
        ("objective: {keep: {sonar: 0.5}}", "found ['sonar']"),
        ("data: {missing: {'*': [sonar]}}", "found ['sonar']"),
        ("{model: {system: mvae}, objective: {keep: 0.7}}", "expected only settings that system 'mvae' uses"),
        (_one("image.sepia", "{kind: rgb}", "image", "bernoulli"), "found 'image.sepia'"),
        (
            _one("image", "{kind: rgb}", "image", "categorical"),
            "'categorical' expected a vector, found shape (3, 64, 64)",
        ),
        (
            _one("x", "{kind: vector, size: 3}", "vector", "bernoulli"),
            "standardises them unless it has offset and scale",
        ),
        (_one("x", "{kind: force}", "sequence", "bernoulli"), "found preprocessing 'force', which gives -1 to 1"),
        ("- a", "expected a mapping"),
        ("a: [", "expected YAML"),
    ],
)
def test_a_bad_configuration_is_told_by_file_and_key(tmp_path, shared_logs, content, sentence):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=f"bad.yaml: .*{re.escape(sentence)}") as refused:
        load_configuration(path)
    # What a validator of ours says is not followed by the whole section.
    assert "Value error" not in str(refused.value) and len(str(refused.value)) < len(str(path)) + 250
    refused = smvae("train", "--data", shared_logs, "--out", tmp_path / "run", "--config", path)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert not (tmp_path / "run").exists()


def test_the_shipped_configuration_is_the_default():
    assert load_configuration(ROOT / "config" / "vision_touch.yaml") == Configuration()


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("train", "--data", "nowhere", "--out", "run"), "nowhere: no such file or folder"),
        (("evaluate", "nothing.safetensors", "--data", "."), "nothing.safetensors: no such checkpoint"),
        (("runs", "nowhere"), "nowhere: no such folder"),
        (("runs", "."), "expected runs of smvae train with a whole epoch, found none"),
        (("reproduce", "mnist", "--data", "nowhere", "--out", "run"), "torchvision"),
        (("info", "nothing.safetensors"), "nothing.safetensors: no such checkpoint"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, arguments, sentence):
    refused = smvae(*arguments, cwd=tmp_path)
    assert refused.returncode == 2
    assert sentence in refused.stderr and "Traceback" not in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_in_any_command_is_told():
    app = typer.Typer(cls=Commands)

    @app.command()
    def long() -> None:
        raise KeyboardInterrupt

    app.command()(lambda: None)
    interrupted = CliRunner().invoke(app, ["long"])
    assert interrupted.exit_code == 130 and interrupted.output == "interrupted\n"


@pytest.mark.parametrize("name", ["simulate", "train", "reproduce", "runs", "evaluate", "info", "export"])
def test_help_teaches(name):
    told = smvae(name, "--help", run=subprocess.run)
    assert told.returncode == 0 and f"Example: smvae {name}" in told.stdout


@pytest.mark.parametrize("error", ["CUDA out of memory. Tried to allocate 2 GiB.", "CUDA error: unspecified failure"])
def test_a_gpu_that_fails_in_any_command_is_one_sentence(error, capsys):
    def command() -> None:
        raise RuntimeError(f"{error}\nCompile with TORCH_USE_CUDA_DSA")

    with pytest.raises(SystemExit, match="2"):
        run_application(command)
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and error in told and "--device cpu" in told


def test_a_gpu_that_is_not_there_is_named_before_the_logs_are_read(shared_logs, tmp_path):
    refused = smvae("train", "--data", shared_logs, "--out", tmp_path / "run", "--device", "cuda:7")
    assert refused.returncode == 2 and "device: 'cuda:7' was asked for, but" in refused.stderr
    assert not (tmp_path / "run").exists()
    refused = smvae("train", "--data", shared_logs, "--out", tmp_path / "run", "--device", "gpu")
    assert refused.returncode == 2 and "expected auto, cpu, cuda or cuda:N" in refused.stderr

"""Runs that can be trusted: killed, interrupted, out of disk, without numbers; and the same on two processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from smvae_core import checkpoint
from smvae_core.checkpoint import CheckpointError
from smvae_core.configuration import Configuration, changed
from smvae_core.data.corruption import KINDS
from smvae_core.data.formats.protocol import LogError
from smvae_core.files import FolderError, writable
from smvae_core.model.networks import NetworkError
from smvae_core.preprocessing import RGB
from smvae_core.training.interruption import interruption
from smvae_core.training.run import Run, RunError
from smvae_core.training.state import load_state
from smvae_core.training.train import Interrupted, Job, TrainingError, train

from ... import programs
from ..conftest import SMALL, write_log

ROOT = Path(__file__).parents[3]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
TINY = changed(
    Configuration(),
    {
        "model": {"size": "tiny", "modalities": SMALL},
        "objective": {"anneal_epochs": 2},
        "training": {"epochs": 3, "batch_size": 20, "save_steps": 2, "clip": 1e4, "schedule": "cosine"},
    },
)
ONCE = changed(TINY, {"training": {"epochs": 1}})


def job(logs: Path, out: Path, configuration: Configuration = TINY, **options) -> Job:
    return Job(logs, out, configuration, "smvae train", device="cpu", **options)


def fit(*arguments, **options) -> Run:
    return train(job(*arguments, **options), Console(quiet=True))


def process(script: str) -> subprocess.CompletedProcess:
    """Run a script that may use `job` and `train`."""
    begin = "from test.core.training.test_run import *\n"
    return programs.run(
        [sys.executable, "-c", begin + script], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )


def figures(run: Run) -> list[dict]:
    """The metrics without what a clock says."""
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "samples_per_second")} for line in lines]


@pytest.fixture(scope="module")
def reference(tmp_path_factory, shared_logs) -> Run:
    """A run that nothing ever interrupted, by its own process like those that are compared with it."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    finished = process(f"train(job(Path({str(shared_logs)!r}), Path({str(folder)!r})))")
    assert finished.returncode == 0, finished.stderr
    return Run(folder)


def test_killed_at_any_write_and_resumed_the_weights_are_bit_equal(reference, shared_logs, tmp_path):
    # The process kills itself just before or just after the n-th of its renames, which are the moments that matter.
    script = """
import smvae_core.files as c
rename, count = os.replace, 0
def dying(*paths):
    global count
    count += 1
    if count == {n} and not {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(*paths)
    if count == {n}:
        os.kill(os.getpid(), signal.SIGKILL)
c.os.replace = dying
train(job(Path({logs!r}), Path({out!r}), resume=True))
"""
    run, positions = Run(tmp_path / "run"), []
    for n, after in ((4, True), (7, False), (8, True)):
        killed = process(script.format(n=n, after=after, logs=str(shared_logs), out=str(run.folder)))
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        positions.append((load_state(run.state)[0].epoch, load_state(run.state)[0].step))
    assert positions == sorted(positions) and (0, 2) in positions and positions[-1] < (3, 0)
    finished = process(f"train(job(Path({str(shared_logs)!r}), Path({str(run.folder)!r}), resume=True))")
    assert finished.returncode == 0, finished.stderr
    for path, expected in ((run.last, reference.last), (run.best, reference.best), (run.state, reference.state)):
        found, wanted = load_file(path), load_file(expected)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted), path
    assert figures(run) == figures(reference)
    assert not list(run.folder.glob(".*.safetensors.*"))


def test_killed_by_another_process_in_the_middle_it_goes_on(reference, shared_logs, tmp_path):
    run = Run(tmp_path / "run")
    begin = (
        f"from test.core.training.test_run import *\ntrain(job(Path({str(shared_logs)!r}), Path({str(run.folder)!r})))"
    )
    with programs.Program(
        [sys.executable, "-c", begin], cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL
    ) as victim:
        programs.wait_until(run.state.exists, victim)
        victim.kill()
    finished = process(f"train(job(Path({str(shared_logs)!r}), Path({str(run.folder)!r}), resume=True))")
    assert finished.returncode == 0, finished.stderr
    found, wanted = load_file(run.last), load_file(reference.last)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_two_processes_train_what_one_trains_with_the_same_batch(reference, shared_logs, tmp_path):
    script = tmp_path / "two.py"
    call = f"train(job(Path({str(shared_logs)!r}), Path({str(tmp_path / 'run')!r})))"
    script.write_text(f"from test.core.training.test_run import *\n{call}\n")
    # By number: on a machine whose own name leads nowhere torchrun waits for minutes, then gives up.
    launcher = ("-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2")
    two = programs.run(
        [sys.executable, *launcher, str(script)], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert two.returncode == 0, two.stderr
    run = Run(tmp_path / "run")
    for line, expected in zip(figures(run), figures(reference), strict=True):
        for name, value in expected["training"].items():
            assert line["training"][name] == pytest.approx(value, rel=1e-5), name
        assert line["score"] == pytest.approx(expected["score"], rel=1e-4)
    found, wanted = load_file(run.last), load_file(reference.last)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-3, atol=1e-4)


def test_a_run_goes_on_only_with_its_own_configuration_and_logs(reference, shared_logs, logs, tmp_path):
    before = reference.state.read_bytes()
    other = changed(TINY, {"training": {"learning_rate": 0.5}})
    with pytest.raises(TrainingError, match=r"training.learning_rate 0.001 \(now 0.5\)"):
        fit(shared_logs, reference.folder, other, resume=True)
    write_log(logs / "another.h5", 5)
    with pytest.raises(TrainingError, match="the logs that the run began with"):
        fit(logs, reference.folder, resume=True)
    assert reference.state.read_bytes() == before


def test_networks_that_do_not_fit_are_told_before_the_logs_are_read(logs, tmp_path):
    rgb = TINY.model.modalities[0].model_copy(update={"preprocessing": RGB(size=60)})
    wrong = TINY.model_copy(update={"model": TINY.model.model_copy(update={"modalities": (rgb,)})})
    with pytest.raises(NetworkError, match=r"rgb: network 'image' takes square images"):
        fit(logs, tmp_path / "run", wrong)
    assert not (tmp_path / "run").exists() and not (logs / ".smvae_cache").exists()


def test_ctrl_c_while_the_best_epoch_is_judged_stops_at_once_and_keeps_it(shared_logs, tmp_path, monkeypatch):
    reached: list[int] = []

    def long(*arguments) -> None:
        signal.raise_signal(signal.SIGINT)
        reached.append(1)

    monkeypatch.setattr("smvae_core.training.session.write_card", long)
    with pytest.raises(Interrupted, match="training is done, but not its judgement; .*best.safetensors.*--resume"):
        fit(shared_logs, tmp_path / "run", ONCE)
    assert not reached
    monkeypatch.undo()
    assert fit(shared_logs, tmp_path / "run", ONCE, resume=True).card.exists()


def test_the_first_signal_is_noted_and_the_second_interrupts():
    with interruption() as wish:
        signal.raise_signal(signal.SIGTERM)
        assert wish.wanted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_ctrl_c_that_torchrun_hands_on_a_second_time_does_not_cost_the_step():
    with interruption(processes=2) as wish:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert wish.wanted
        with pytest.raises(KeyboardInterrupt):
            wish.at_once()


def test_scaled_gradients_are_clipped(shared_logs, tmp_path):
    assert ONCE.training.clip is not None
    run = fit(shared_logs, tmp_path / "run", ONCE, precision="16-mixed")
    assert np.isfinite(figures(run)[-1]["training"]["loss"])


def test_a_place_for_results_that_is_none_is_told_before_the_work(tmp_path):
    writable(tmp_path / "figures")
    assert list((tmp_path / "figures").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="file: expected a folder to write to"):
        writable(tmp_path / "file")


def test_a_damaged_state_is_named(shared_logs, tmp_path):
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    run.state.write_bytes(b"1234")
    with pytest.raises(TrainingError, match="state.safetensors: expected the state of a run"):
        fit(shared_logs, run.folder, resume=True)


def test_the_state_of_another_file_is_refused(reference):
    with pytest.raises(CheckpointError, match="expected the state of a run"):
        load_state(reference.best)


def test_only_one_process_trains_in_a_folder(shared_logs, tmp_path):
    with Run(tmp_path / "run").locked(), pytest.raises(RunError, match="another process trains in this folder"):
        fit(shared_logs, tmp_path / "run")


def test_training_stops_early_when_nothing_gets_better(shared_logs, tmp_path):
    stuck = changed(TINY, {"training": {"learning_rate": 1e-12, "epochs": 50, "patience": 2}})
    lines = figures(fit(shared_logs, tmp_path / "run", stuck))
    scores = [line["score"] for line in lines]
    assert len(scores) < 50 and min(scores) == min(scores[:-2]) and scores[-3] == min(scores)


def test_a_loss_that_is_not_finite_names_the_batch_and_keeps_the_last_good_state(shared_logs, tmp_path):
    wild = changed(TINY, {"training": {"learning_rate": 1e30, "clip": None, "schedule": "constant"}})
    wild = wild.model_copy(update={"training": wild.training.model_copy(update={"clip": None})})
    expected = (
        r"epoch 1, batch 2 of 3: expected a finite loss, found (nan|inf).* samples: triangle_0_journal_\d step \d+"
    )
    with pytest.raises(TrainingError, match=expected):
        fit(shared_logs, tmp_path / "run", wild)
    position, tensors = load_state(Run(tmp_path / "run").state)
    assert position.epoch == 0 and all(tensor.isfinite().all() for tensor in tensors.values())


def test_a_folder_that_cannot_hold_the_run_is_told_before_training(reference, shared_logs, tmp_path):
    script = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
train(job(Path({str(shared_logs)!r}), Path({str(tmp_path / "run")!r})))
"""
    refused = process(script)
    assert "TrainingError" in refused.stderr and "the run cannot be written (File too large)" in refused.stderr
    assert "epoch" not in refused.stdout
    assert not list((tmp_path / "run").glob("*.safetensors")) and not list((tmp_path / "run").glob(".*.safetensors.*"))


def test_a_disk_that_fills_up_stops_the_run_with_the_last_good_state(reference, shared_logs, tmp_path):
    out = tmp_path / "run"
    script = f"""
import resource
from smvae_core.training.session import Session
end = Session._end_epoch
def filling(session, *arguments):
    end(session, *arguments)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
Session._end_epoch = filling
train(job(Path({str(shared_logs)!r}), Path({str(out)!r})))
"""
    stopped = process(script)
    assert "TrainingError" in stopped.stderr and "what was saved before is whole" in stopped.stderr
    assert load_state(Run(out).state)[0].epoch == 1
    checkpoint.load(Run(out).last)
    finished = process(f"train(job(Path({str(shared_logs)!r}), Path({str(out)!r}), resume=True))")
    assert finished.returncode == 0, finished.stderr
    found, wanted = load_file(Run(out).last), load_file(reference.last)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_place_that_is_no_folder_is_told(shared_logs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="expected a folder to write to"):
        fit(shared_logs, tmp_path / "file" / "run")


def test_logs_of_which_half_lack_a_sensor_are_trained_on(logs, tmp_path):
    for path in [*logs.glob("*journal_0_*.h5"), *logs.glob("*journal_1_*.h5")]:
        write_log(path, 6, depth_data=None)
    data = TINY.data.model_copy(update={"missing": {"*journal_3": ("force",)}})
    run = fit(logs, tmp_path / "run", ONCE.model_copy(update={"data": data}))
    metrics = checkpoint.load(run.best).metadata.metrics
    assert np.isfinite(figures(run)[-1]["training"]["loss"])
    assert len(metrics.subsets) == 15


def test_a_pattern_that_fits_no_trajectory_is_told(shared_logs, tmp_path):
    data = TINY.data.model_copy(update={"missing": {"*journal_9": ("force",)}})
    with pytest.raises(LogError, match="found '\\*journal_9'"):
        fit(shared_logs, tmp_path / "run", TINY.model_copy(update={"data": data}))


def test_a_run_says_which_files_it_left_out(logs, tmp_path):
    bad = logs / "20190408_183041_triangle_0_journal_0_1_1000.h5"
    bad.write_bytes(b"")
    with pytest.raises(LogError, match="1 of 8 files"):
        fit(logs, tmp_path / "run")
    run = fit(logs, tmp_path / "run", ONCE, skip_bad=True)
    assert checkpoint.load(run.best).metadata.training.skipped == (bad.name,)
    assert bad.name in run.card.read_text()


def test_the_papers_split_trains(shared_logs, tmp_path):
    data = TINY.data.model_copy(update={"split": "paper"})
    record = checkpoint.load(fit(shared_logs, tmp_path / "run", ONCE.model_copy(update={"data": data})).best).metadata
    assert record.training.samples == 48 and record.training.held_out == ()


def test_half_precision_trains_and_says_finite_numbers(shared_logs, tmp_path):
    run = fit(shared_logs, tmp_path / "run", ONCE, precision="bf16-mixed")
    assert np.isfinite(figures(run)[-1]["training"]["loss"])
    assert all(tensor.dtype != torch.bfloat16 for tensor in load_file(run.best).values())


def test_corruption_trains_reproducibly_and_otherwise_than_without(shared_logs, tmp_path):
    kinds = {kind: 0.1 for kind in KINDS}
    corrupted = changed(ONCE, {"corruption": {"images": kinds, "numbers": kinds}})
    runs = [fit(shared_logs, tmp_path / name, c) for name, c in (("a", corrupted), ("b", corrupted), ("c", ONCE))]
    first, again, without = (checkpoint.load(run.last) for run in runs)
    assert first.metadata.training.configuration.corruption == corrupted.corruption
    weights = [torch.cat([p.flatten() for p in x.model.parameters()]) for x in (first, again, without)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])

"""The parts of `benchmarks.gpu` that train."""

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu import Verdict, environment
from benchmarks.synthetic_logs import write_logs
from benchmarks.training import our_loop, our_step, plain_step, settings, synthetic_samples, timed
from smvae_core.checkpoint import load
from smvae_core.device import arithmetic, first_line, torch_device
from smvae_core.training.loop import Loop


def waiting(name: str, quick: bool) -> list[Verdict]:
    """Take training steps while torch refuses to wait for the GPU."""
    found, samples = torch_device(name), synthetic_samples(200 if quick else 4000)
    verdicts = []
    for static in (False, True):
        loop = our_loop(samples, found, settings("tiny" if quick else "paper"), static=static)
        rows = np.arange(100)
        loop.objective.train()

        def step(loop: Loop = loop, rows: np.ndarray = rows) -> None:
            loop.train_step(rows, slice(len(rows)), *loop.loader.batch(rows))

        for _ in range(2):
            step()
        doubt = f"20 {'recorded' if static else 'eager'} training steps never wait for the GPU"
        torch.cuda.set_sync_debug_mode("error") if found.type == "cuda" else None
        try:
            for _ in range(2 if quick else 20):
                step()
            verdicts.append(Verdict(doubt, "no wait", True))
        except RuntimeError as error:
            verdicts.append(Verdict(doubt, first_line(error), False))
        finally:
            torch.cuda.set_sync_debug_mode("default") if found.type == "cuda" else None
    return verdicts


def training(name: str, quick: bool) -> list[Verdict]:
    """Time the trainer's step in every precision, recorded and eager, against the plain loop."""
    found = torch_device(name)
    samples, size = synthetic_samples(400 if quick else 4000), "tiny" if quick else "paper"
    verdicts = []
    for batch in (20,) if quick else (100, 1000):
        configuration = settings(size, batch=batch)
        steps = {
            "plain loop, PyTorch's defaults": plain_step(samples, found, size, batch),
            "eager, 32": our_step(samples, found, configuration, static=False),
            "recorded, 32": our_step(samples, found, configuration, static=True),
            "recorded, bf16-mixed": our_step(samples, found, configuration, precision="bf16-mixed", static=True),
            "eager, 16-mixed": our_step(samples, found, configuration, precision="16-mixed", static=False),
        }
        seconds = timed(steps, found, 2 if quick else 5, 1 if quick else 20)
        with arithmetic(found, tf32=True):
            more = {"recorded, tf32": our_step(samples, found, configuration, static=True)}
            seconds |= timed(more, found, 2 if quick else 5, 1 if quick else 20)
        plain = seconds["plain loop, PyTorch's defaults"]
        for kind, value in seconds.items():
            told = f"{1e3 * value:.2f} ms, {plain / value:.2f} times the plain loop"
            verdicts.append(Verdict(f"batch {batch}: {kind}", told, None))
        best = min(value for kind, value in seconds.items() if kind.startswith("recorded"))
        if found.type == "cuda" and batch == 100:
            verdicts.append(Verdict("batch 100: 4 times the plain loop", f"{plain / best:.1f}", plain / best >= 4.0))
            minutes = best * 200 * 1050 / 60
            verdicts.append(
                Verdict("200 epochs of 105,000 samples in 10 minutes", f"{minutes:.1f} minutes", minutes < 10)
            )
    return verdicts


def resume(name: str, quick: bool) -> list[Verdict]:
    """Train, train again but kill and resume, and compare the weights byte by byte."""
    with tempfile.TemporaryDirectory() as folder:
        logs = write_logs(Path(folder) / "logs", 4 if quick else 40)
        config = Path(folder) / "config.yaml"
        config.write_text(
            f"model: {{size: {'tiny' if quick else 'paper'}}}\ndata: {{split: paper}}\n"
            f"training: {{epochs: 2, save_steps: {1 if quick else 5}}}\n"
        )
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        train = [sys.executable, "-m", "smvae_core.cli", "train", "--device", name]
        train += ["--data", str(logs), "--config", str(config)]
        began = time.monotonic()
        _run([*train, "--out", str(whole)])
        seconds = time.monotonic() - began
        with subprocess.Popen([*train, "--out", str(killed)], env=environment(), stdout=subprocess.PIPE) as process:
            state = killed / "state.safetensors"
            while not state.exists() and process.poll() is None:
                time.sleep(0.05)
            time.sleep(0.0 if quick else 2.0)
            process.send_signal(signal.SIGKILL)
        _run([*train, "--out", str(killed), "--resume"])
        size_mb = (whole / "state.safetensors").stat().st_size / 1e6
        tensors = [load(run / "last.safetensors").model.state_dict() for run in (whole, killed)]
        same = all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])
    told = f"weights {'equal' if same else 'differ'}; two epochs took {seconds:.0f} s, a state has {size_mb:.0f} MB"
    return [Verdict("a run that was killed and resumed gives the same weights", told, same)]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])

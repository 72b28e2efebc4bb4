"""A training step, by default at paper size, batch 100, against a plain eager loop on the same networks.

The plain loop encodes and decodes each modality once, from batches that lie ready in memory: what a careful person
writes first. Ours draws subsets, gathers and decompresses the batch, and keeps the totals besides.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from rich.console import Console

from benchmarks.report import RESULTS, Goal, report
from smvae_core.configuration import Configuration, changed
from smvae_core.data.columns import CONTACT, POSE, VALID, Chunk
from smvae_core.data.formats.protocol import Trajectory
from smvae_core.data.samples import Samples, fitted, samples_of
from smvae_core.model.likelihood import log_likelihood
from smvae_core.model.networks import SIZES
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE
from smvae_core.training.interruption import Interruption
from smvae_core.training.loop import CHECKED_EVERY, Loop

BATCH = 100


def synthetic_samples(count: int = 4000, trajectories: int = 1) -> Samples:
    """Return noise in the stored form of the four modalities, in trajectories of the same length."""
    random, modalities = np.random.default_rng(0), Configuration().model.modalities
    arrays: dict[str, np.ndarray] = {
        "rgb": random.integers(0, 256, (count, 3, 64, 64), dtype=np.uint8),
        "depth": random.random((count, 1, 64, 64), dtype=np.float32).astype(np.float16),
        "force": np.tanh(random.normal(size=(count, 6, 32))).astype(np.float32),
        "action": random.normal(size=(count, 4)).astype(np.float32),
        CONTACT: np.zeros(count, np.float32),
        POSE: np.zeros((count, 4), np.float32),
        VALID: np.ones((count, len(modalities)), np.float32),
    }
    length, paths = count // trajectories, [Path(f"synthetic_{number}") for number in range(trajectories)]
    chunks = {path: Chunk(number * length, length, frozenset()) for number, path in enumerate(paths)}
    samples = samples_of([Trajectory(path.name, ((0, path),)) for path in paths], modalities, chunks, arrays)
    return Samples(**{**vars(samples), "modalities": fitted(samples)})


def our_step(
    samples: Samples,
    device: torch.device,
    configuration: Configuration,
    fusion: torch.nn.Module | None = None,
    precision: Any = "32-true",
    static: bool | None = None,
) -> Callable[[], None]:
    """Return a callable that takes the trainer's next step.

    Args:
        samples: the training part.
        device: where it trains.
        configuration: of the run.
        fusion: stands in for the model's own.
        precision: of Fabric.
        static: as `Loop.static`.
    """
    loop = our_loop(samples, device, configuration, fusion, precision, static)
    steps = _steps(loop)
    return lambda: next(steps)


def our_loop(
    samples: Samples,
    device: torch.device,
    configuration: Configuration,
    fusion: torch.nn.Module | None = None,
    precision: Any = "32-true",
    static: bool | None = None,
) -> Loop:
    """Return the trainer's loop of a freshly made model; arguments as `our_step`."""
    on_gpu = device.type == "cuda"
    fabric = lightning_fabric.Fabric(
        accelerator="gpu" if on_gpu else "cpu", devices=[device.index or 0] if on_gpu else 1, precision=precision
    )
    torch.manual_seed(0)
    model = MultimodalVAE(configuration.model.model_copy(update={"modalities": samples.modalities}))
    model.fusion = model.fusion if fusion is None else fusion
    return Loop(configuration, model, samples, fabric, Interruption(), Console(quiet=True), static)


def settings(
    size: str, system: str = "smvae", batch: int = BATCH, memory: bool = False, **objective: float
) -> Configuration:
    """Return the configuration of a run that never ends."""
    return changed(
        Configuration(),
        {
            "model": {"size": size, "system": system} | ({"memory": {}} if memory else {}),
            "objective": objective,
            "training": {"batch_size": batch, "epochs": 10**6},
        },
    )


def _steps(loop: Loop) -> Iterator[None]:
    order = np.random.default_rng(0).permutation(len(loop.samples))
    batches = loop.lanes.order(0) if loop.lanes else np.array_split(order, loop.steps)
    loop.objective.train()
    while True:
        for rows in batches:
            loop.train_step(rows, slice(len(rows)), *loop.loader.batch(rows))
            loop.step %= loop.steps
            if loop.step % CHECKED_EVERY[loop.fabric.device.type] == 0:
                loop.check()
            yield


def plain_step(samples: Samples, device: torch.device, size: str, batch_size: int = BATCH) -> Callable[[], None]:
    """Return a callable that takes the plain loop's next step, on whole samples that lie ready in memory."""
    torch.manual_seed(0)
    model = MultimodalVAE(ModelConfiguration.model_validate({"size": size})).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    batches = [samples.batch(np.arange(i, i + batch_size))[0] for i in range(8)]
    batches = [{name: x.to(device) for name, x in batch.items()} for batch in batches]
    count = 0

    def step() -> None:
        nonlocal count
        batch = batches[count % len(batches)]
        count += 1
        embeddings = torch.stack([model.embeddings[name](batch[name]) for name in model.names], dim=1)
        posterior = model.fusion(embeddings, torch.ones(batch_size, len(model.names), dtype=torch.bool, device=device))
        decoded = model.decode(posterior.sample())
        likelihood = sum(log_likelihood(model.modalities[name], batch[name], x) for name, x in decoded.items())
        loss = (posterior.kl_to_prior() - likelihood).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def timed(steps: dict[str, Callable[[], None]], device: torch.device, rounds: int, each: int) -> dict[str, float]:
    """Return the median seconds of a step of each, in alternating rounds after a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            for _ in range(each):
                step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:
                seconds[name].append((time.perf_counter() - began) / each)
    return {name: statistics.median(values) for name, values in seconds.items()}


def cost_of_memory(device: torch.device, size: str, rounds: int) -> float:
    """Return the time of a sample in windows that memory goes through, against that of one by itself."""
    samples = synthetic_samples(trajectories=40)
    batch = BATCH // Configuration().sequences.length * Configuration().sequences.length
    steps = {
        name: our_step(samples, device, settings(size, batch=batch, memory=name == "memory"))
        for name in ("memory", "none")
    }
    found = timed(steps, device, rounds, 1)
    return found["memory"] / found["none"]


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--each", type=int, default=1, help="steps of each a round")
    parser.add_argument("--size", default="paper", choices=list(SIZES))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    device, samples = torch.device(arguments.device), synthetic_samples()
    found = timed(
        {
            "plain": plain_step(samples, device, arguments.size),
            "coordinated": our_step(samples, device, settings(arguments.size)),
            "subsets": our_step(samples, device, settings(arguments.size, subset_kl=0.0, full_kl=0.0)),
            "full": our_step(samples, device, settings(arguments.size, full_set=1.0, subset_kl=0.0, full_kl=0.0)),
        },
        device,
        arguments.rounds,
        arguments.each,
    )
    gain, cost = found["plain"] / found["subsets"], found["subsets"] / found["full"]
    memory = cost_of_memory(device, arguments.size, arguments.rounds)
    goal = 4.0 if device.type == "cuda" else 1.15
    lines = [
        Goal("against the plain loop", f"{gain:.2f}×", f"≥ {goal}×", gain >= goal),
        Goal("random subsets, against the full set only", f"{cost:.2f}×", "≤ 1.1×", cost <= 1.1),
        Goal(
            "full set only, against the plain loop", f"{found['plain'] / found['full']:.2f}×", "(for comparison)", True
        ),
        Goal(
            "coordinated subsets, the default: each step has whole sets and subsets, against the full set only",
            f"{found['coordinated'] / found['full']:.2f}×",
            "(for comparison)",
            True,
        ),
        Goal("with memory, a sample, against without", f"{memory:.2f}×", "≤ 1.3×", memory <= 1.3),
    ]
    if device.type == "cuda":
        minutes = found["subsets"] * 200 * 1050 / 60
        lines.append(Goal("200 epochs of 105,000 samples, minutes", f"{minutes:.1f}", "< 10", minutes < 10))
    report(
        f"Training, {device.type}",
        f"python -m benchmarks.training --device {device.type}",
        f"One step of the {arguments.size} networks, batch {BATCH}: "
        f"{1e3 * found['subsets']:.1f} ms with random subsets, {1e3 * found['coordinated']:.1f} ms with coordinated "
        f"subsets, {1e3 * found['full']:.1f} ms with the full set only, "
        f"{1e3 * found['plain']:.1f} ms in a plain eager loop. "
        f"Medians of {arguments.rounds} alternating rounds after a warm-up.",
        lines,
        arguments.results,
    )


if __name__ == "__main__":
    main()

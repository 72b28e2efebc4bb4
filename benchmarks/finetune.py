"""Fine-tuning the shipped model on logs of another camera pose, against training from nothing on the same logs.

From a built package: python -m benchmarks.finetune

On a machine without MuJoCo, such as a borrowed GPU: simulate the logs elsewhere and name their folder.

smvae simulate --seed 700 --camera-yaw 25 --trajectories 8 --steps 100 --out logs/700    # and --seed 701, logs/701
python -m benchmarks.finetune --device cuda --logs logs
"""

import argparse
import json
import math
import tempfile
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.report import RESULTS, Goal, report
from smvae_core.checkpoint import default_checkpoint
from smvae_core.configuration import Configuration, changed, load_configuration
from smvae_core.device import Device
from smvae_core.simulation.simulate import simulate
from smvae_core.training.run import Job
from smvae_core.training.train import train

_FIRST_SEED = 700
"""Seed of the first logs. The shipped model was trained on logs of seed 3."""
CONFIGURATION = Path(__file__).parent.parent / "config" / "peg_insertion.yaml"


def _scores(
    logs: Path, out: Path, configuration: Configuration, init: Path | None, device: Device, console: Console
) -> list[float]:
    """Train; return the held-out error after each epoch: the mean NMSE of all modalities from nine subsets."""
    cache = out.with_name("cache")  # not beside the logs, which are kept
    run = train(Job(logs, out, configuration, "benchmark", device=device, cache=cache, init=init), console)
    return [json.loads(line)["score"] for line in run.metrics.read_text().splitlines()]


def _needed(nothing: list[float], tuned: list[float], part: float) -> tuple[float, int, int | None]:
    """Return an error, and after how many epochs training from nothing and fine-tuning have reached it.

    The error is what training from nothing has reached after this part of its epochs.
    """
    error = min(nothing[: max(1, round(part * len(nothing)))])
    own = next(epoch for epoch, score in enumerate(nothing, 1) if score <= error)
    return error, own, next((epoch for epoch, score in enumerate(tuned, 1) if score <= error), None)


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trajectories", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100, help="of each trajectory")
    parser.add_argument("--camera-yaw", type=float, default=25.0, help="degrees by which the camera is turned")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=2, help="number of sets of logs, each with a seed of training")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--logs", type=Path, help="folder with the logs of each seed in a folder of its own; others are simulated there"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(1)
    shipped, console = default_checkpoint(), Console()
    pairs = []
    for seed in range(arguments.seeds):
        training = {"epochs": arguments.epochs, "batch_size": arguments.batch_size, "seed": seed}
        # One of a few trajectories; the configuration holds out so much of a thousand.
        own = {"training": training, "data": {"held_out": 0.125}}
        configuration = changed(load_configuration(CONFIGURATION), own)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            logs = (arguments.logs or folder / "logs") / str(_FIRST_SEED + seed)
            if not logs.exists():
                simulate(
                    logs,
                    trajectories=arguments.trajectories,
                    steps=arguments.steps,
                    seed=_FIRST_SEED + seed,
                    camera_yaw=arguments.camera_yaw,
                )
            nothing = _scores(logs, folder / "nothing", configuration, None, arguments.device, console)
            pairs.append(
                (nothing, _scores(logs, folder / "shipped", configuration, shipped, arguments.device, console))
            )
    samples = arguments.trajectories * (arguments.steps - 1)
    steps = math.ceil((1 - configuration.data.held_out) * samples / arguments.batch_size)
    lines = []
    for part, words in ((0.5, "half of its epochs"), (1.0, "all of them")):
        found = [_needed(nothing, tuned, part) for nothing, tuned in pairs]
        ratios = [math.inf if tuned is None else tuned / own for _, own, tuned in found]
        lines.append(
            Goal(
                f"steps to the held-out error of training from nothing after {words}, "
                f"{_told([error for error, _, _ in found])}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
                "≤ 0.5",
                max(ratios) <= 0.5,
            )
        )
    ends = "; ".join(f"{tuned[-1]:.3f} and {nothing[-1]:.3f}" for nothing, tuned in pairs)
    lines.append(
        Goal(f"error after {arguments.epochs} epochs, fine-tuned and from nothing", ends, "(for comparison)", True)
    )
    curves = "; ".join(f"fine-tuned {_told(tuned)}, from nothing {_told(nothing)}" for nothing, tuned in pairs)
    report(
        "Fine-tuning",
        f"python -m benchmarks.finetune --trajectories {arguments.trajectories} --steps {arguments.steps} "
        f"--camera-yaw {arguments.camera_yaw:g} --epochs {arguments.epochs} --batch-size {arguments.batch_size} "
        f"--seeds {arguments.seeds} --device {arguments.device}",
        f"{arguments.seeds} times: {arguments.trajectories} trajectories of {arguments.steps} steps (`smvae simulate "
        f"--seed {_FIRST_SEED} --camera-yaw {arguments.camera_yaw:g}` and the seeds after it), {arguments.epochs} "
        f"epochs of about {steps} steps with config/peg_insertion.yaml, once from nothing and once with `--init` of "
        "the shipped checkpoint. The error is the mean NMSE of all modalities from nine subsets, on the held-out "
        "trajectories, looked at after each epoch. Steps are those of fine-tuning over those of training from "
        "nothing. After each "
        f"epoch: {curves}.",
        lines,
        arguments.results,
    )


def _told(scores: list[float]) -> str:
    return ", ".join(f"{score:.2f}" for score in scores)


if __name__ == "__main__":
    main()

"""The time of one set through each back end of the engine, against eager, for every subset."""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.report import RESULTS, Goal, report
from smvae_core import checkpoint
from smvae_core.checkpoint import Checkpoint, Metadata
from smvae_core.device import Device, checked_device
from smvae_core.inference.backend import BackendError, trial
from smvae_core.inference.building import BackendName
from smvae_core.inference.engine import Engine
from smvae_core.model.memory import MemoryConfiguration
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE
from smvae_core.subsets import all_subsets

_GOAL = {"cpu": 1.8, "cuda": 5.0}


def loaded(size: str) -> Checkpoint:
    """Return the shipped checkpoint, of compact networks, or untrained networks of the paper's size."""
    if size == "compact":
        return checkpoint.load(checkpoint.default_checkpoint())
    configuration = ModelConfiguration(size="paper")
    metadata = Metadata(format=checkpoint.FORMAT, package_version="", model=configuration)
    return Checkpoint(MultimodalVAE(configuration).eval(), {}, metadata)


def engines(size: str, device: Device) -> dict[BackendName, Engine]:
    """Return a warm engine of each back end that this device has."""
    found: dict[BackendName, Engine] = {}
    for name in get_args(BackendName):
        try:
            found[name] = Engine(loaded(size), device, name)
        except BackendError as error:
            Console().print(f"without {name}: {error}")
        else:
            found[name].warm_up()
    return found


def rows(size: str, device: Device, rounds: int) -> list[dict[str, Any]]:
    """Return one row a subset and back end: median milliseconds, and the median ratio of eager's time to its time.

    In each round the back ends take turns, so that other load of the machine falls on all alike.
    """
    running = engines(size, device)
    arrays, _ = trial(running["eager"].metadata.model)
    found = []
    for subset in [*all_subsets(list(arrays)), ()]:
        given = {name: arrays[name] for name in subset}
        for predict in (list(arrays), []):
            taken: dict[BackendName, list[float]] = {name: [] for name in running}
            for _ in range(rounds):
                for name, engine in running.items():
                    began = time.perf_counter()
                    engine.infer(given, predict)
                    taken[name].append(time.perf_counter() - began)
            for name, seconds in taken.items():
                ratios = [eager / this for eager, this in zip(taken["eager"], seconds)]
                found.append(
                    {
                        "size": size,
                        "device": running[name].device.type,
                        "backend": name,
                        "subset": list(subset),
                        "predicted": len(predict),
                        "milliseconds": 1000 * statistics.median(seconds),
                        "times_eager": statistics.median(ratios),
                    }
                )
    return found


def memory_cost(size: Literal["compact", "paper"], device: Device, rounds: int) -> dict[BackendName, float]:
    """Return by back end the time of one whole set with memory, everything predicted, against that without.

    Untrained networks of one size, with and without memory, take turns. The least times count, since a busy machine
    only ever adds to them.
    """
    ratios: dict[BackendName, float] = {}
    for name in get_args(BackendName):
        running = []
        try:
            for memory in (None, MemoryConfiguration()):
                configuration = ModelConfiguration(size=size, memory=memory)
                metadata = Metadata(format=checkpoint.FORMAT, package_version="", model=configuration)
                running.append(Engine(Checkpoint(MultimodalVAE(configuration).eval(), {}, metadata), device, name))
        except BackendError:
            continue
        arrays, _ = trial(running[0].metadata.model)
        states = [engine.infer(arrays, list(arrays)).state for engine in running]
        least = [float("inf")] * 2
        for _ in range(rounds):
            for number, (engine, state) in enumerate(zip(running, states)):
                began = time.perf_counter()
                engine.infer(arrays, list(arrays), state, 0.05)
                least[number] = min(least[number], time.perf_counter() - began)
        ratios[name] = least[1] / least[0]
    return ratios


def _memory_row(size: str, ratios: dict[BackendName, float]) -> Goal:
    """Return the row of a size; `benchmarks.node_memory` has the goal, which is one of a whole set in the node."""
    figures = ", ".join(f"{name} {ratio:.2f}×" for name, ratio in ratios.items())
    what = f"{size} networks, whole set, all predicted: with memory against without"
    return Goal(what, figures, "(for comparison)", True)


def _table(measured: list[dict[str, Any]]) -> Table:
    names = list(dict.fromkeys(row["backend"] for row in measured))
    table = Table("set", "predicted", *(f"{name}, ms" for name in names), *(f"{name}, × eager" for name in names[1:]))
    for first in range(0, len(measured), len(names)):
        line = measured[first : first + len(names)]
        table.add_row(
            "+".join(line[0]["subset"]) or "(empty)",
            str(line[0]["predicted"]),
            *(f"{row['milliseconds']:.2f}" for row in line),
            *(f"{row['times_eager']:.1f}" for row in line[1:]),
        )
    return table


def _goals(measured: list[dict[str, Any]]) -> list[Goal]:
    lines = []
    for size in dict.fromkeys(row["size"] for row in measured):
        of_size = [row for row in measured if row["size"] == size]
        whole = [row for row in of_size if len(row["subset"]) == row["predicted"] == len(of_size[0]["subset"])]
        best = max(whole, key=lambda row: row["times_eager"])
        goal = _GOAL[best["device"]]
        eager = next(row["milliseconds"] for row in whole if row["backend"] == "eager")
        what = f"{size} networks, whole set, all predicted: {best['backend']} against eager"
        figures = f"{best['times_eager']:.1f}× ({best['milliseconds']:.1f} ms against {eager:.1f} ms)"
        lines.append(Goal(what, figures, f"≥ {goal}×", best["times_eager"] >= goal))
        same = [row for row in of_size if row["backend"] == best["backend"]]
        worst = min(same, key=lambda row: row["times_eager"])
        named = f"{'+'.join(worst['subset']) or 'empty'}, {worst['predicted']} predicted"
        what = f"{size} networks, the least of {len(same) // 2} sets, all or nothing predicted ({named})"
        lines.append(Goal(what, f"{worst['times_eager']:.1f}×", "(for comparison)", True))
    return lines


def main() -> None:
    """Measure, print the table, and report; `--json` also writes one line of JSON for each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=checked_device, default="cpu")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path, help="a file for the rows, one JSON object a line")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measured, memory_rows = [], []
    for size in ("compact", "paper"):
        memory_rows.append(_memory_row(size, memory_cost(size, arguments.device, arguments.rounds)))
        of_size = rows(size, arguments.device, arguments.rounds)
        Console(width=120).print(f"{size} networks", _table(of_size))
        measured += of_size
    if arguments.json is not None:
        arguments.json.write_text("".join(json.dumps(row) + "\n" for row in measured))
    report(
        f"Engine, {arguments.device}",
        f"python -m benchmarks.engine --device {arguments.device}",
        "One set in, latent and predictions out, by each back end of the engine, warm, in one thread; ONNX Runtime is "
        "there on a processor only. Medians, of times and of ratios within a round, of "
        f"{arguments.rounds} rounds in which the back ends take turns.",
        [*_goals(measured), *memory_rows],
        arguments.results,
    )


if __name__ == "__main__":
    main()

"""The closed loop over real topics: simulated robot and fusion node as processes, and the policy as a third.

    python -m benchmarks.closed_loop_topics --logs FOLDER --out FOLDER

OUT is a folder that `python -m benchmarks.closed_loop --task contact` has filled: its head of latents makes some of
the attempts to train on, and its outcomes in lock-step stand beside those over topics. From a built package, on a
machine that keeps real time. A call that was broken off goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import torch
from rclpy.signals import SignalHandlerOptions

from benchmarks import closed_loop_heads
from benchmarks.closed_loop import Kept
from benchmarks.closed_loop_heads import MEMORY, WHOLE
from benchmarks.closed_loop_table import share
from benchmarks.insertion import CONDITIONS, LIMIT_S, REACH_M, Condition, Outcome, Task
from benchmarks.insertion_feeds import SENSORS
from benchmarks.insertion_topics import Pilot, Timing
from benchmarks.report import RESULTS, machine, write_section
from benchmarks.rig import own_domain
from smvae_core import checkpoint
from smvae_core.data.formats.vision_touch import find_trajectories
from smvae_core.errors import SMVAEError
from smvae_core.inference.state import fingerprint
from smvae_core.interrupts import interruptible, uninterrupted
from smvae_core.simulation.policy import Phase
from smvae_ros.demo.executable import ExecutableError, running

TITLE = "Closed loop, over topics"
_POSSIBLE = [condition for condition in CONDITIONS if condition.phase is not Phase.SEARCH]
_SETTLED = 200
"""Latents after which the node has chosen what runs its model."""


def main() -> None:
    """Train the head where it is missing, make the attempts, and report."""
    arguments = _parser().parse_args()
    try:
        _run(arguments)
    except (SMVAEError, ExecutableError, RuntimeError) as error:
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="default: the shipped one")
    parser.add_argument("--logs", type=Path, required=True, help="folder of simulated logs of the fixed scene")
    parser.add_argument("--out", type=Path, required=True, help="folder of benchmarks.closed_loop")
    parser.add_argument("--attempts", type=int, default=10, help="under each condition")
    parser.add_argument("--conditions", nargs="+", metavar="NAME", help="only conditions whose names hold one of these")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    chosen = [c for c in _POSSIBLE if not arguments.conditions or any(n in c.name for n in arguments.conditions)]
    if not chosen:
        raise SMVAEError(f"--conditions: expected parts of {', '.join(c.name for c in _POSSIBLE)}")
    path, folder = (arguments.checkpoint or checkpoint.default_checkpoint()).resolve(), arguments.out
    torch.set_num_threads(1)
    loaded, settings = checkpoint.load(path), _settings(folder)
    if (found := settings["model"]) != (expected := fingerprint(loaded.model)):
        raise SMVAEError(f"--out: expected a folder made with the model {expected}, found one made with {found}")
    lock_step, over_topics = Kept(folder, settings), Kept(folder / "topics", settings)
    rows = folder / "topics" / "precision.md"
    if not rows.exists():
        logs, own = settings["trajectories"], settings["own"]
        told = closed_loop_heads.train_whole(loaded, find_trajectories(arguments.logs), logs, own, Task.CONTACT, folder)
        rows.write_text("\n".join(told) + "\n")
    todo = [
        (condition, seed)
        for seed in range(arguments.attempts)
        for condition in chosen
        if (WHOLE, condition.name, seed) not in over_topics.outcomes
    ]
    timing = folder / "topics" / "timing.jsonl"
    if todo:
        _attempt(path, folder, todo, over_topics, timing)
    timings = [Timing(*json.loads(line)) for line in timing.read_text().splitlines()] if timing.exists() else []
    found = over_topics.by_condition(arguments.attempts), lock_step.by_condition(arguments.attempts)
    lines = _section(*found, rows.read_text().splitlines(), timings)
    write_section(TITLE, "\n".join(lines), arguments.results)


def _settings(folder: Path) -> dict[str, Any]:
    of = folder / "settings.json"
    if not of.exists() or (settings := json.loads(of.read_text()))["task"] != Task.CONTACT.value:
        raise SMVAEError("--out: expected a folder that `benchmarks.closed_loop --task contact` has filled")
    return {str(key): value for key, value in settings.items()}


def _attempt(path: Path, folder: Path, todo: Sequence[tuple[Condition, int]], kept: Kept, timing: Path) -> None:
    """Start robot, node and pilot, and make the attempts, the conditions in turn."""
    own_domain()
    namespace = f"/closed_loop_{os.getpid()}"
    node = {"checkpoint": str(path), **{f"streams.{name}.distrust": "drop" for name in SENSORS}}
    with (
        tempfile.TemporaryDirectory() as logs,
        running("simulated_robot", namespace, {"policy": "commands"}, Path(logs) / "robot") as robot_runs,
        running("fusion_node", namespace, node, Path(logs) / "node") as node_runs,
        uninterrupted(),
    ):
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        head = closed_loop_heads.whole(folder)
        pilot = Pilot(namespace, head, (robot_runs, node_runs))
        try:
            with interruptible():
                pilot.settle(_SETTLED)
                for condition, seed in todo:
                    outcome, took = pilot.attempt(condition, seed)
                    kept.add(WHOLE, condition.name, [seed], [outcome])
                    with timing.open("a") as file:
                        file.write(json.dumps(took) + "\n")
                    print(f"attempt {seed + 1}: {condition.name}: {outcome}, {took}", file=sys.stderr)
        finally:
            pilot.close()
            rclpy.shutdown()


def _section(
    over_topics: Mapping[tuple[str, str], Sequence[Outcome]],
    lock_step: Mapping[tuple[str, str], Sequence[Outcome]],
    precision: Sequence[str],
    timings: Sequence[Timing],
) -> list[str]:
    delays, skipped = [1e3 * one.delay_s for one in timings], sum(one.skipped_s for one in timings)
    lines = [
        f"## {TITLE}",
        "",
        f"`python -m benchmarks.closed_loop_topics --logs LOGS --out OUT`, {machine()}",
        "",
        "`simulated_robot` and `fusion_node` run as processes, the sensors with `streams.*.distrust: drop`; a third "
        "process reads the latents, moves the arm by the topic `command`, and sets faults by the robot's parameters. "
        "Starts, guesses and moments of failure are those of the same attempts in lock-step, and so are policy and "
        "filter. What differs: the robot does not wait for a command, so that a reading is late, and the filter "
        "follows the commands that the arm has carried out since, also where no latent comes; the head reads sets that "
        "hold the command, as the node's do.",
        "",
        f"From a latent's stamp to the command that follows from it: {np.median(delays):.0f} ms (median of the "
        f"attempts' medians; the largest {max(delays):.0f} ms). In {len(timings)} attempts the robot left out "
        f"{skipped:.1f} s, where the machine was too slow for real time.",
        "",
        f"Attempts up to the first contact within {LIMIT_S:g} s of the robot's time: the share whose first contact was "
        f"within {1e3 * REACH_M:.0f} mm of the hole's axis (95 % intervals, Wilson), the error of the position across "
        "the hole (median of the attempts' root mean squares), and the time until the contact, median.",
        "",
        "| condition | how | attempts | beside the hole | error, mm | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for condition in _POSSIBLE:
        for how, feed, some in (("topics", WHOLE, over_topics), ("lock-step", MEMORY, lock_step)):
            if (WHOLE, condition.name) in over_topics and (made := some.get((feed, condition.name))):
                error, seconds = (float(np.median([getattr(o, key) for o in made])) for key in ("error_mm", "seconds"))
                cells = f"{share([o.reached for o in made])} | {error:.1f} | {seconds:.1f}"
                lines.append(f"| {condition.name} | {how} | {len(made)} | {cells} |")
    return [
        *lines,
        "",
        "The head, judged on held-out logs, as above:",
        "",
        "| pose read from | across the hole, mm | height, mm | yaw, mrad | contact told rightly | z² |",
        "|---|---|---|---|---|---|",
        *(row.replace("latent with memory", "latent with memory, commands in the sets") for row in precision),
        "",
    ]


if __name__ == "__main__":
    main()

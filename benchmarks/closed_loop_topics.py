"""The closed loop over real topics: simulated robot and fusion node as processes, and the policy as a third.

    python -m benchmarks.closed_loop_topics --logs FOLDER --out FOLDER

OUT is a folder that `python -m benchmarks.closed_loop` has filled with the same --task: its heads read the sets, its
head of latents makes some of the attempts to train one more on, and its outcomes in lock-step stand beside those over
topics. From a built package, on a machine that keeps real time. A call that was broken off goes on.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import torch
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from benchmarks import closed_loop_arguments, closed_loop_heads
from benchmarks.closed_loop import Kept
from benchmarks.closed_loop_arguments import checkpoint_path, chosen_conditions, chosen_feeds, possible_conditions
from benchmarks.closed_loop_heads import HELD, MEMORY, OURS, WHOLE, ZEROS
from benchmarks.closed_loop_table import share
from benchmarks.insertion import LIMIT_S, REACH_M, Condition, Outcome, Task
from benchmarks.insertion_feeds import SENSORS
from benchmarks.insertion_topics import Pilot, Timing
from benchmarks.report import machine, write_section
from benchmarks.rig import own_domain
from benchmarks.topic_readings import NodeReadings, Readings, SetReadings
from smvae_core import checkpoint
from smvae_core.data.formats.vision_touch import find_trajectories
from smvae_core.errors import SMVAEError
from smvae_core.inference.state import fingerprint
from smvae_core.interrupts import interruptible, uninterrupted
from smvae_ros.demo.executable import ExecutableError, running

TITLES = {Task.CONTACT: "Closed loop, over topics", Task.INSERTION: "Closed loop, insertion, over topics"}
FEEDS = {WHOLE: MEMORY, OURS: OURS, ZEROS: ZEROS, HELD: HELD}
"""What can be fed over topics, and the feed of lock-step time that stands beside it."""
_SETTLED = 200
"""Readings after which the node has chosen what runs its model, and Python its pace."""

Outcomes = Mapping[tuple[str, str], Sequence[Outcome]]


def main() -> None:
    """Train the head where it is missing, make the attempts, and report."""
    arguments = closed_loop_arguments.parser(__doc__, attempts=10).parse_args()
    try:
        _run(arguments)
    except (SMVAEError, ExecutableError, RuntimeError) as error:
        sys.exit(f"error: {error}")


def _run(arguments: Namespace) -> None:
    task, path, folder = Task(arguments.task), checkpoint_path(arguments), arguments.out
    chosen, feeds = chosen_conditions(arguments), chosen_feeds(arguments, list(FEEDS))
    torch.set_num_threads(1)
    loaded, settings = checkpoint.load(path), _settings(folder, task)
    if (found := settings["model"]) != (expected := fingerprint(loaded.model)):
        raise SMVAEError(f"--out: expected a folder made with the model {expected}, found one made with {found}")
    lock_step, over_topics = Kept(folder, settings), Kept(folder / "topics", settings)
    rows = folder / "topics" / "precision.md"
    if WHOLE in feeds and not rows.exists():
        logs, own = settings["trajectories"], settings["own"]
        told = closed_loop_heads.train_whole(loaded, find_trajectories(arguments.logs), logs, own, task, folder)
        rows.write_text("\n".join(told) + "\n")
    for feed in feeds:
        todo = [
            (condition, seed)
            for seed in range(arguments.attempts)
            for condition in chosen
            if (feed, condition.name, seed) not in over_topics.outcomes
        ]
        if todo:
            _attempt(feed, path, folder, task, todo, over_topics)
    timing = _timing(folder)
    timings = [json.loads(line) for line in timing.read_text().splitlines()] if timing.exists() else []
    found = over_topics.by_condition(arguments.attempts), lock_step.by_condition(arguments.attempts)
    precision = rows.read_text().splitlines() if rows.exists() else []
    lines = _section(task, *found, precision, [(feed, Timing(*took)) for feed, *took in timings])
    write_section(TITLES[task], "\n".join(lines), arguments.results)


def _settings(folder: Path, task: Task) -> dict[str, Any]:
    of = folder / "settings.json"
    if not of.exists() or (settings := json.loads(of.read_text()))["task"] != task.value:
        raise SMVAEError(f"--out: expected a folder that `benchmarks.closed_loop --task {task.value}` has filled")
    return {str(key): value for key, value in settings.items()}


def _timing(folder: Path) -> Path:
    return folder / "topics" / "timing.jsonl"


def _attempt(
    feed: str, path: Path, folder: Path, task: Task, todo: Sequence[tuple[Condition, int]], kept: Kept
) -> None:
    """Start the robot, the node where the feed is its latents, and the pilot; make the attempts, conditions in turn."""
    own_domain()
    namespace = f"/closed_loop_{os.getpid()}"
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        checks = [stack.enter_context(running("simulated_robot", namespace, {"policy": "commands"}, logs / "robot"))]
        if feed == WHOLE:
            node = {"checkpoint": str(path), **{f"streams.{name}.distrust": "drop" for name in SENSORS}}
            checks.append(stack.enter_context(running("fusion_node", namespace, node, logs / "node")))
        stack.enter_context(uninterrupted())
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.shutdown)
        pilot = Pilot(namespace, _readings(feed, path, folder), checks)
        stack.callback(pilot.close)
        with interruptible():
            pilot.settle(_SETTLED)
            for condition, seed in todo:
                outcome, took = pilot.attempt(condition, seed, task)
                kept.add(feed, condition.name, [seed], [outcome])
                with _timing(folder).open("a") as file:
                    file.write(json.dumps([feed, *took]) + "\n")
                print(f"attempt {seed + 1}: {condition.name}, {feed}: {outcome}, {took}", file=sys.stderr)


def _readings(feed: str, path: Path, folder: Path) -> Callable[[Node], Readings]:
    """Return what makes a feed's readings, of a node."""
    if feed == WHOLE:
        head = closed_loop_heads.whole(folder)
        return lambda node: NodeReadings(node, head)
    loaded = checkpoint.load(path)
    reads = closed_loop_heads.feed(feed, loaded, folder)
    return lambda node: SetReadings(node, loaded.metadata.model.modalities, reads)


def _section(
    task: Task,
    over_topics: Outcomes,
    lock_step: Outcomes,
    precision: Sequence[str],
    timings: Sequence[tuple[str, Timing]],
) -> list[str]:
    insertion = task is Task.INSERTION
    delays = [
        f"{1e3 * np.median(took):.0f} ms with {feed} (at most {1e3 * max(took):.0f})"
        for feed in FEEDS
        if (took := [one.delay_s for name, one in timings if name == feed])
    ]
    lines = [
        f"## {TITLES[task]}",
        "",
        f"`python -m benchmarks.closed_loop_topics --logs LOGS --out OUT --task {task.value}`, {machine()}",
        "",
        "`simulated_robot` runs as a process, and for our latent with memory and trust so does `fusion_node`, the "
        "sensors with `streams.*.distrust: drop`. Another process reads the latents, moves the arm by the topic "
        "`command`, and sets faults by the robot's parameters. The other feeds read the sets that the same process "
        "gathers from the sensors' topics, by the fusion node's own code. Starts, guesses and moments of failure are "
        "those of the same attempts in lock-step, and so are policy and filter. What differs: the robot does not wait "
        "for a command, so that a reading is late, and the filter follows the commands that the arm has carried out "
        "since, also where no reading comes; the node's sets hold the command, and so do those that its head was "
        "trained on.",
        "",
        f"From a reading's stamp to the command that follows from it, median of the attempts' medians: "
        f"{', '.join(delays)}. In {len(timings)} attempts the robot left out "
        f"{sum(one.skipped_s for _, one in timings):.1f} s, where the machine was too slow for real time.",
        "",
        f"Attempts {'to the bottom of the hole' if insertion else 'up to the first contact'} within {LIMIT_S:g} s of "
        f"the robot's time: {'first the share that inserted the peg, then ' if insertion else ''}the share whose first "
        f"contact was within {1e3 * REACH_M:.0f} mm of the hole's axis (95 % intervals, Wilson), the error of the "
        "position across the hole (median of the attempts' root mean squares), and the time, median.",
        "",
        f"| condition | pose from | how | attempts |{' inserted |' if insertion else ''} beside the hole | error, mm "
        "| seconds |",
        f"|---|---|---|---|{'---|' if insertion else ''}---|---|---|",
    ]
    for condition in possible_conditions(task):
        for feed, beside in FEEDS.items():
            for how, name, some in (("topics", feed, over_topics), ("lock-step", beside, lock_step)):
                if (feed, condition.name) in over_topics and (made := some.get((name, condition.name))):
                    lines.append(f"| {condition.name} | {beside} | {how} | {len(made)} | {_cells(made, insertion)} |")
    if precision:
        lines += [
            "",
            "The head of the node's latents, judged on held-out logs, as above:",
            "",
            "| pose read from | across the hole, mm | height, mm | yaw, mrad | contact told rightly | z² |",
            "|---|---|---|---|---|---|",
            *(row.replace("latent with memory", "latent with memory, commands in the sets") for row in precision),
        ]
    return [*lines, ""]


def _cells(made: Sequence[Outcome], insertion: bool) -> str:
    error, seconds = (float(np.median([getattr(one, key) for one in made])) for key in ("error_mm", "seconds"))
    shares = [share([getattr(one, key) for one in made]) for key in ("inserted", "reached")[not insertion :]]
    return " | ".join([*shares, f"{error:.1f}", f"{seconds:.1f}"])


if __name__ == "__main__":
    main()

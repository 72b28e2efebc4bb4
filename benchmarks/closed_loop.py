"""Insert a peg by what a small head reads from the latent, while sensors fail; against the raw modalities.

    python -m benchmarks.closed_loop --logs FOLDER --out FOLDER

The heads are trained on the trajectories that the checkpoint was trained on, and judged on those that it held out. Then
every feed makes the same attempts, with the same starts, guesses and moments of failure, in lock-step simulated time.
What is reached lies in `--out`: a call that was broken off goes on from there.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks import closed_loop_arguments, closed_loop_heads, closed_loop_table
from benchmarks.closed_loop_arguments import checkpoint_path, chosen_conditions, chosen_feeds, possible_conditions
from benchmarks.closed_loop_heads import HELD, PLAIN, TRUE
from benchmarks.insertion import CONDITIONS, Condition, Outcome, Task, attempts
from benchmarks.insertion_feeds import Feed
from benchmarks.report import machine, write_section
from smvae_core import checkpoint
from smvae_core.data.formats.vision_touch import find_trajectories
from smvae_core.errors import SMVAEError
from smvae_core.inference.state import fingerprint

TITLES = {Task.CONTACT: "Closed loop", Task.INSERTION: "Closed loop, insertion"}
_LIMITS = {
    Task.CONTACT: (
        "The task ends at the first contact. To insert the peg, the position must be known to 1 or 2 mm: see the table "
        "above for what a latent keeps. What would keep more: the pose as a modality in training (logs have it), or "
        "a camera at the wrist, in whose pictures the last millimetres change more pixels."
    ),
    Task.INSERTION: "The policy's search covers a few millimetres; what it does not find, it tries again.",
}


class Job(NamedTuple):
    """Some attempts of one feed under one condition, for one process."""

    feed: str
    condition: Condition
    seeds: tuple[int, ...]
    task: Task
    checkpoint: Path
    folder: Path


class Kept:
    """The outcomes of a folder, by feed, condition and seed. Each is written when it is known.

    Raises:
        SMVAEError: they are of another checkpoint or task.
    """

    def __init__(self, folder: Path, settings: dict[str, object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file, of = folder / "attempts.jsonl", folder / "settings.json"
        if of.exists() and (found := json.loads(of.read_text())) != settings:
            raise SMVAEError(f"--out: expected a folder made with {settings}, found {found}; choose another folder")
        of.write_text(json.dumps(settings) + "\n")
        self.outcomes: dict[tuple[str, str, int], Outcome] = {}
        for line in self._file.read_text().splitlines() if self._file.exists() else ():
            try:
                feed, condition, seed, *outcome = json.loads(line)
            except ValueError:
                continue  # the last line of a call that was killed
            self.outcomes[feed, condition, seed] = Outcome(*outcome)

    def add(self, feed: str, condition: str, seeds: Sequence[int], made: Sequence[Outcome]) -> None:
        """Keep the outcomes of some attempts of a feed under a condition."""
        with self._file.open("a") as file:
            for seed, outcome in zip(seeds, made):
                self.outcomes[feed, condition, seed] = outcome
                file.write(json.dumps([feed, condition, seed, *outcome]) + "\n")

    def by_condition(self, most: int) -> dict[tuple[str, str], list[Outcome]]:
        """Return the outcomes of the seeds below `most`, by feed and condition."""
        found: dict[tuple[str, str], list[Outcome]] = {}
        for (feed, condition, seed), outcome in sorted(self.outcomes.items()):
            if seed < most:
                found.setdefault((feed, condition), []).append(outcome)
        return found


def main() -> None:
    """Train the heads, make the attempts, and report."""
    arguments = _parser().parse_args()
    try:
        _run(arguments)
    except SMVAEError as error:
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = closed_loop_arguments.parser(__doc__, attempts=100)
    parser.add_argument("--side-by-side", type=int, default=20, help="attempts that one process makes in lock-step")
    parser.add_argument("--trajectories", type=int, default=48, help="read at most so many to train the heads")
    parser.add_argument("--own", type=int, default=60, help="attempts by true pose, and by latent, to train on")
    parser.add_argument("--processes", type=int, default=1)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    task, path = Task(arguments.task), checkpoint_path(arguments)
    chosen = chosen_conditions(arguments)
    torch.set_num_threads(1)
    loaded, folder = _loaded(path), arguments.out
    feeds = closed_loop_heads.feeds(loaded)
    asked = chosen_feeds(arguments, feeds)
    kept = Kept(
        folder,
        {
            "task": task.value,
            "model": fingerprint(loaded.model),
            "trajectories": arguments.trajectories,
            "own": arguments.own,
        },
    )
    table = folder / "precision.md"
    if not table.exists():
        rows = closed_loop_heads.train(
            loaded, find_trajectories(arguments.logs), arguments.trajectories, arguments.own, task, folder
        )
        table.write_text("\n".join(rows) + "\n")
    jobs = [
        Job(feed, condition, seeds, task, path, folder)
        for part in np.array_split(np.arange(arguments.attempts), -(-arguments.attempts // arguments.side_by_side))
        for condition in chosen
        for feed in asked
        if _differs(feed, condition)
        if (seeds := tuple(int(s) for s in part if (feed, condition.name, int(s)) not in kept.outcomes))
    ]
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        for job, made in zip(jobs, pool.map(_work, jobs)):
            kept.add(job.feed, job.condition.name, job.seeds, made)
            print(f"to attempt {job.seeds[-1] + 1}: {job.condition.name}, {job.feed}", file=sys.stderr)
    found = kept.by_condition(arguments.attempts)
    for name in (HELD, PLAIN):
        # Where nothing is missing, holding has nothing to hold; the head is another, but of the same complete sets.
        found.pop((name, CONDITIONS[0].name), None)
    lines = [
        f"## {TITLES[task]}",
        "",
        f"`python -m benchmarks.closed_loop --logs LOGS --out OUT --task {task.value}`, {machine()}",
        "",
        *table.read_text().splitlines(),
        "",
        _LIMITS[task],
        "",
        *closed_loop_table.outcomes(found, feeds, possible_conditions(task), task),
        "",
        *closed_loop_table.verdicts(found, task),
        "",
    ]
    write_section(TITLES[task], "\n".join(lines), arguments.results)


def _differs(feed: str, condition: Condition) -> bool:
    """Whether a feed has something to show under a condition."""
    if feed == TRUE:
        return not condition.sensors
    if feed == PLAIN:
        # Frozen samples are never missing: only the training of the head differs from `ZEROS`.
        return condition.fault == "unplugged" and bool(condition.sensors)
    return feed != HELD or bool(condition.sensors)


def _work(job: Job) -> list[Outcome]:
    torch.set_num_threads(1)
    modalities = _loaded(job.checkpoint).metadata.model.modalities
    return attempts(_feed(job.feed, job.checkpoint, job.folder), job.condition, modalities, job.seeds, job.task)


@cache
def _loaded(path: Path) -> checkpoint.Checkpoint:
    return checkpoint.load(path)


@cache
def _feed(name: str, path: Path, folder: Path) -> Feed:
    return closed_loop_heads.feed(name, _loaded(path), folder)


if __name__ == "__main__":
    main()

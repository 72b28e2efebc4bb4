"""Insert a peg by what a small head reads from the latent, while sensors fail; against the raw modalities.

    python -m benchmarks.closed_loop --checkpoint FILE --logs FOLDER

The heads are trained on the trajectories that the checkpoint was trained on, and judged on those that it held out. Then
every feed makes the same attempts, with the same starts, guesses and moments of failure, in lock-step simulated time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binomtest

from benchmarks import pose_head
from benchmarks.insertion import (
    CONDITIONS,
    LIMIT_S,
    REACH_M,
    SENSORS,
    Condition,
    Feed,
    LatentFeed,
    Outcome,
    RawFeed,
    TruePose,
    attempt,
)
from benchmarks.report import RESULTS, machine, write_section
from smvae_core import checkpoint
from smvae_core.data.formats.vision_touch import find_trajectories
from smvae_core.inference.engine import Engine
from smvae_core.subsets import Subset

TITLE = "Closed loop"
_CONFIDENCE = 0.95
_SUBSETS: tuple[Subset, ...] = (
    ("rgb", "depth", "force", "action"),
    ("rgb", "depth", "force"),
    ("rgb", "force"),
    ("depth", "force"),
    ("rgb",),
    ("depth",),
    ("force",),
)
_TRUE, _MEMORY, _OURS, _ZEROS, _HELD = "true pose", "latent with memory and trust", "latent", "raw, zeros", "raw, held"
_MID_APPROACH = ("camera unplugged while aligning", "camera frozen while aligning")


class Job(NamedTuple):
    """Some attempts of one feed under one condition, for one process."""

    feed: str
    condition: Condition
    seeds: tuple[int, ...]
    checkpoint: Path
    heads: Path


def main() -> None:
    """Train the heads, make the attempts, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="default: the shipped one")
    parser.add_argument("--logs", type=Path, required=True, help="folder of simulated logs of the fixed scene")
    parser.add_argument("--attempts", type=int, default=100, help="of each feed under each condition")
    parser.add_argument("--trajectories", type=int, default=120, help="read at most so many to train the heads")
    parser.add_argument("--conditions", nargs="+", metavar="NAME", help="only conditions whose names hold one of these")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    chosen = [c for c in CONDITIONS if not arguments.conditions or any(n in c.name for n in arguments.conditions)]
    if not chosen:
        sys.exit(f"error: --conditions: expected parts of {', '.join(c.name for c in CONDITIONS)}")
    torch.set_num_threads(1)
    path = arguments.checkpoint or checkpoint.default_checkpoint()
    with tempfile.TemporaryDirectory() as folder:
        table = _train_heads(path, arguments.logs, arguments.trajectories, Path(folder))
        feeds = _feeds(path)
        found = _attempts(path, Path(folder), feeds, chosen, arguments.attempts, arguments.processes)
    text = "\n".join(
        [
            f"## {TITLE}",
            "",
            f"`python -m benchmarks.closed_loop`, {machine()}",
            "",
            *table,
            "",
            *_outcomes(found, feeds, chosen, arguments.attempts),
            "",
            *_verdicts(found, feeds, arguments.attempts),
            "",
        ]
    )
    write_section(TITLE, text, arguments.results)


def _train_heads(path: Path, logs: Path, most: int, heads: Path) -> list[str]:
    """Write the heads to a folder; return the table of their precision on held-out trajectories."""
    loaded = checkpoint.load(path)
    held = set(loaded.metadata.training.held_out if loaded.metadata.training else ())
    trajectories = find_trajectories(logs)
    training = [one for one in trajectories if one.name not in held][:most]
    unseen = [one for one in trajectories if one.name in held]
    if not unseen:
        sys.exit(
            f"error: --logs: expected the logs of the checkpoint's training, found none that it held out in {logs}"
        )
    modalities = loaded.metadata.model.modalities
    steps, judged = (
        pose_head.read_steps(training, modalities, 2),
        pose_head.read_steps(unseen, modalities, 4),
    )
    model = loaded.model.eval()
    latent = pose_head.fit_latent(model, steps, SENSORS)
    raw = pose_head.fit(pose_head.raw(steps.arrays, SENSORS), steps.truth)
    pose_head.save(heads / "latent", latent)
    pose_head.save(heads / "raw", raw)
    rows = [
        f"Heads with one hidden layer, trained on {len(steps)} steps of {len(training)} trajectories and judged on "
        f"{len(judged)} steps of {len(unseen)} that neither model nor head saw: root mean squares where the peg is "
        f"within {1e3 * pose_head.NEAR_M:.0f} mm of the hole's axis.",
        "",
        "| pose read from | across the hole, mm | height, mm | yaw, mrad | contact told rightly |",
        "|---|---|---|---|---|",
    ]
    for subset in _SUBSETS:
        mask = np.array([[name in subset for name in model.names]] * len(judged))
        found = pose_head.precision(latent.read(pose_head.latents(model, judged, mask)), judged.truth)
        rows.append(_precision_row(f"latent of {' + '.join(subset)}", found))
    found = pose_head.precision(raw.read(pose_head.raw(judged.arrays, SENSORS)), judged.truth)
    return [*rows, _precision_row(f"raw {' + '.join(SENSORS)}", found)]


def _precision_row(name: str, found: pose_head.Precision) -> str:
    cells = f"{found.across_mm:.1f} | {found.height_mm:.1f} | {found.yaw_mrad:.0f} | {100 * found.contact:.0f} %"
    return f"| {name} | {cells} |"


def _feeds(path: Path) -> list[str]:
    return [_TRUE, *([_MEMORY] if _engine(path).memory is not None else []), _OURS, _ZEROS, _HELD]


def _attempts(
    path: Path, heads: Path, feeds: Sequence[str], conditions: Sequence[Condition], count: int, processes: int
) -> dict[tuple[str, str], list[Outcome]]:
    """Return the outcomes by feed and name of the condition, in the order of the seeds."""
    shares = [tuple(int(s) for s in part) for part in np.array_split(np.arange(count), -(-count // 10))]
    jobs = [Job(feed, condition, seeds, path, heads) for condition in conditions for feed in feeds for seeds in shares]
    # What is held in place of missing values does not matter where nothing is missing; the true pose needs no sensor.
    jobs = [job for job in jobs if not (job.feed in (_HELD, _TRUE) and not _differs(job.feed, job.condition))]
    found: dict[tuple[str, str], list[Outcome]] = {}
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for number, (job, outcomes) in enumerate(zip(jobs, pool.map(_work, jobs)), start=1):
            found.setdefault((job.feed, job.condition.name), []).extend(outcomes)
            print(f"{number} of {len(jobs)}: {job.condition.name}, {job.feed}", file=sys.stderr)
    for condition in conditions:
        if not condition.sensors and (_ZEROS, condition.name) in found:
            found[_HELD, condition.name] = found[_ZEROS, condition.name]
    return found


def _differs(feed: str, condition: Condition) -> bool:
    return not condition.sensors if feed == _TRUE else bool(condition.sensors)


def _work(job: Job) -> list[Outcome]:
    torch.set_num_threads(1)
    feed, engine = _feed(job.feed, job.checkpoint, job.heads), _engine(job.checkpoint)
    return [attempt(feed, job.condition, engine.modalities, seed) for seed in job.seeds]


@cache
def _engine(path: Path) -> Engine:
    engine = Engine.load(path, "cpu")
    engine.warm_up()
    return engine


@cache
def _feed(name: str, path: Path, heads: Path) -> Feed:
    engine = _engine(path)
    if name == _TRUE:
        return TruePose()
    if name in (_OURS, _MEMORY):
        return LatentFeed(engine, pose_head.load(heads / "latent"), name == _MEMORY)
    return RawFeed(engine.modalities, pose_head.load(heads / "raw"), name == _HELD)


def _outcomes(
    found: dict[tuple[str, str], list[Outcome]], feeds: Sequence[str], conditions: Sequence[Condition], count: int
) -> list[str]:
    rows = [
        f"{count} attempts of each, {LIMIT_S:g} simulated seconds long, in lock-step, with the same starts, guesses "
        "and moments of failure. First the share that inserted the peg, then the share whose first contact was within "
        f"{1e3 * REACH_M:.0f} mm of the hole's axis, which the policy's search covers; 95 % intervals (Wilson). Last "
        "the error of the position across the hole, the median of the attempts' root mean squares. A fault stays.",
        "",
        "| condition | pose from | inserted | first contact beside the hole | error, mm |",
        "|---|---|---|---|---|",
    ]
    for condition in conditions:
        for feed in feeds:
            if outcomes := found.get((feed, condition.name)):
                inserted, reached = (_share([getattr(o, key) for o in outcomes]) for key in ("inserted", "reached"))
                error = float(np.median([outcome.error_mm for outcome in outcomes]))
                rows.append(f"| {condition.name} | {feed} | {inserted} | {reached} | {error:.1f} |")
    return rows


def _share(successes: Sequence[bool]) -> str:
    result = binomtest(sum(successes), len(successes))
    interval = result.proportion_ci(_CONFIDENCE, method="wilson")
    return f"{100 * result.statistic:.0f} % ({100 * interval.low:.0f} to {100 * interval.high:.0f})"


def _verdicts(found: dict[tuple[str, str], list[Outcome]], feeds: Sequence[str], count: int) -> list[str]:
    """Return the table of goals: failures of ours against those of zeros and holding, and against our own with all."""
    ours = _MEMORY if _MEMORY in feeds else _OURS
    rows = [f"Failures out of {count}, of {ours}:", "", "| | measured | goal | met |", "|---|---|---|---|"]
    for key, task in (("inserted", "insertion"), ("reached", "first contact")):
        failures = {pair: sum(not getattr(o, key) for o in outcomes) for pair, outcomes in found.items()}
        for condition in _MID_APPROACH:
            mine = failures.get((ours, condition))
            if mine is None:
                continue
            for other in (_ZEROS, _HELD):
                theirs = failures[other, condition]
                rows.append(_row(f"{task}, {condition}, against {other}", mine, 0.5 * theirs, f"half of {theirs}"))
            if (whole := failures.get((ours, CONDITIONS[0].name))) is not None:
                limit = 1.25 * whole + 0.05 * count
                rows.append(_row(f"{task}, {condition}, against all sensors", mine, limit, f"1.25 × {whole} + 5 %"))
    return rows


def _row(what: str, measured: int, limit: float, told: str) -> str:
    return f"| {what} | {measured} | ≤ {limit:g} ({told}) | {'yes' if measured <= limit else '**no**'} |"


if __name__ == "__main__":
    main()

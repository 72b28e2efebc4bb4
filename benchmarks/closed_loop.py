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
from collections.abc import Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binomtest

from benchmarks import pose_head
from benchmarks.insertion import CONDITIONS, LIMIT_S, REACH_M, Condition, Outcome, Task, attempts
from benchmarks.insertion_feeds import SENSORS, STEP_S, Feed, LatentFeed, RawFeed, RememberingFeed, TruePose
from benchmarks.pose_head import Steps
from benchmarks.report import RESULTS, machine, write_section
from smvae_core import checkpoint
from smvae_core.data.formats.vision_touch import find_trajectories
from smvae_core.model.vae import MultimodalVAE
from smvae_core.simulation.policy import Phase
from smvae_core.subsets import Subset

TITLE = "Closed loop"
_CONFIDENCE = 0.95
_KNOWN = 40
"""Steps of a trajectory in which everything is there, before something is lost."""
_SINCE = ((_KNOWN, _KNOWN + 20), (_KNOWN + 20, _KNOWN + 60), (_KNOWN + 60, _KNOWN + 200))
_LOST: tuple[Subset, ...] = ((), ("rgb",), ("rgb", "depth"))
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
    task: Task
    checkpoint: Path
    heads: Path


def main() -> None:
    """Train the heads, make the attempts, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="default: the shipped one")
    parser.add_argument("--logs", type=Path, required=True, help="folder of simulated logs of the fixed scene")
    parser.add_argument("--task", choices=[task.value for task in Task], default=Task.CONTACT.value)
    parser.add_argument("--attempts", type=int, default=100, help="of each feed under each condition")
    parser.add_argument("--side-by-side", type=int, default=20, help="attempts that one process makes in lock-step")
    parser.add_argument("--trajectories", type=int, default=48, help="read at most so many to train the heads")
    parser.add_argument("--conditions", nargs="+", metavar="NAME", help="only conditions whose names hold one of these")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    task = Task(arguments.task)
    # A peg that searches has touched before.
    possible = [c for c in CONDITIONS if task is Task.INSERTION or c.phase is not Phase.SEARCH]
    chosen = [c for c in possible if not arguments.conditions or any(n in c.name for n in arguments.conditions)]
    if not chosen:
        sys.exit(f"error: --conditions: expected parts of {', '.join(c.name for c in possible)}")
    torch.set_num_threads(1)
    path = arguments.checkpoint or checkpoint.default_checkpoint()
    feeds, parts = _feeds(path), -(-arguments.attempts // arguments.side_by_side)
    shares = [tuple(int(seed) for seed in part) for part in np.array_split(np.arange(arguments.attempts), parts)]
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool,
    ):
        table = _train_heads(path, arguments.logs, arguments.trajectories, Path(folder))
        found: dict[tuple[str, str], list[Outcome]] = {}
        for seeds in shares:
            jobs = [
                Job(feed, condition, seeds, task, path, Path(folder))
                for condition in chosen
                for feed in feeds
                # What is held does not matter where nothing is missing; the true pose needs no sensor.
                if feed not in (_HELD, _TRUE) or _differs(feed, condition)
            ]
            for job, made in zip(jobs, pool.map(_work, jobs)):
                found.setdefault((job.feed, job.condition.name), []).extend(made)
                print(f"to attempt {seeds[-1] + 1}: {job.condition.name}, {job.feed}", file=sys.stderr)
                if job.feed == _ZEROS and not job.condition.sensors:
                    found.setdefault((_HELD, job.condition.name), []).extend(made)
            # After each share, so that a run which is broken off leaves what it has reached.
            count = seeds[-1] + 1
            lines = [
                f"## {TITLE}",
                "",
                f"`python -m benchmarks.closed_loop --logs LOGS --task {task.value} --attempts {count}`, {machine()}",
                "",
                *table,
                "",
                *_outcomes(found, feeds, chosen, task, count),
                "",
                *_verdicts(found, feeds, task, count),
                "",
            ]
            write_section(TITLE, "\n".join(lines), arguments.results)


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
    steps, judged = (pose_head.read_steps(some, modalities, 1) for some in (training, unseen[: most // 3]))
    model = loaded.model.eval()
    latent = pose_head.fit_latent(model, steps, SENSORS)
    raw = pose_head.fit(pose_head.raw(steps.arrays, SENSORS), steps.truth)
    pose_head.save(heads / "latent", latent)
    pose_head.save(heads / "raw", raw)
    rows = [
        f"Heads with one hidden layer, trained on {len(steps)} steps of {len(training)} trajectories and judged on "
        f"{len(judged)} steps of {len(judged.lengths)} that neither model nor head saw: root mean squares where the "
        f"peg is within {1e3 * pose_head.NEAR_M:.0f} mm of the hole's axis.",
        "",
        "| pose read from | across the hole, mm | height, mm | yaw, mrad | contact told rightly |",
        "|---|---|---|---|---|",
    ]
    for subset in _SUBSETS:
        mask = _with(model, judged, subset)
        found = pose_head.precision(latent.read(pose_head.latents(model, judged, mask)), judged.truth)
        rows.append(_precision_row(f"latent of {' + '.join(subset)}", found))
    if model.memory is not None:
        remembering = pose_head.fit_remembering(model, steps, SENSORS)
        pose_head.save(heads / "memory", remembering)
        for lost in _LOST:
            mask = _with(model, judged, [name for name in model.names if name not in lost], after=_KNOWN)
            read = remembering.read(pose_head.remembering_latents(model, judged, mask, SENSORS))
            for begin, end in _SINCE if lost else ((_KNOWN, None),):
                rows_of = np.concatenate([np.arange(len(judged))[one] for one in _spans(judged, begin, end)])
                found = pose_head.precision(read[rows_of], judged.truth[rows_of])
                since = f", {' and '.join(lost)} lost for {_seconds(begin, end)}" if lost else ""
                rows.append(_precision_row(f"latent with memory{since}", found))
    found = pose_head.precision(raw.read(pose_head.raw(judged.arrays, SENSORS)), judged.truth)
    return [*rows, _precision_row(f"raw {' + '.join(SENSORS)}", found)]


def _with(model: MultimodalVAE, steps: Steps, subset: Collection[str], after: int = 0) -> np.ndarray:
    """Return a mask (N, M) of sets that have a subset, and everything in the first `after` steps of a trajectory."""
    mask = np.array([[name in subset for name in model.names]] * len(steps))
    for span in _spans(steps, 0, after):
        mask[span] = True
    return mask


def _spans(steps: Steps, begin: int, end: int | None) -> list[slice]:
    """Return the rows of steps `begin` to `end` of each trajectory."""
    starts = np.concatenate([[0], np.cumsum(steps.lengths)[:-1]])
    return [slice(s + min(begin, n), s + n if end is None else s + min(end, n)) for s, n in zip(starts, steps.lengths)]


def _seconds(begin: int, end: int | None) -> str:
    low = (begin - _KNOWN) * STEP_S
    return f"more than {low:g} s" if end is None else f"{low:g} to {(end - _KNOWN) * STEP_S:g} s"


def _precision_row(name: str, found: pose_head.Precision) -> str:
    cells = f"{found.across_mm:.1f} | {found.height_mm:.1f} | {found.yaw_mrad:.0f} | {100 * found.contact:.0f} %"
    return f"| {name} | {cells} |"


def _feeds(path: Path) -> list[str]:
    return [_TRUE, *([_MEMORY] if _loaded(path).model.memory is not None else []), _OURS, _ZEROS, _HELD]


def _differs(feed: str, condition: Condition) -> bool:
    return not condition.sensors if feed == _TRUE else bool(condition.sensors)


def _work(job: Job) -> list[Outcome]:
    torch.set_num_threads(1)
    feed, modalities = _feed(job.feed, job.checkpoint, job.heads), _loaded(job.checkpoint).metadata.model.modalities
    return attempts(feed, job.condition, modalities, job.seeds, job.task)


@cache
def _loaded(path: Path) -> checkpoint.Checkpoint:
    return checkpoint.load(path)


@cache
def _feed(name: str, path: Path, heads: Path) -> Feed:
    loaded = _loaded(path)
    if name == _TRUE:
        return TruePose()
    if name == _MEMORY:
        return RememberingFeed(loaded, pose_head.load(heads / "memory"))
    if name == _OURS:
        return LatentFeed(loaded.model, pose_head.load(heads / "latent"))
    return RawFeed(loaded.metadata.model.modalities, pose_head.load(heads / "raw"), name == _HELD)


def _outcomes(
    found: dict[tuple[str, str], list[Outcome]],
    feeds: Sequence[str],
    conditions: Sequence[Condition],
    task: Task,
    count: int,
) -> list[str]:
    insertion = task is Task.INSERTION
    limit = (
        "The task ends at the first contact: to insert the peg, its position must be known to 1 or 2 mm. The raw "
        "pictures tell it nearly so well, so it is the latent that does not keep the last millimetres, which change "
        "few pixels. What would: the pose as a modality in training (logs have it), or a camera at the wrist."
    )
    rows = [
        *([] if insertion else [limit, ""]),
        f"{count} attempts of each, {'to the bottom of the hole' if insertion else 'up to the first contact'} within "
        f"{LIMIT_S:g} simulated seconds, with the same starts, guesses and moments of failure. "
        f"{'First the share that inserted the peg, then the' if insertion else 'The'} share whose first contact was "
        f"within {1e3 * REACH_M:.0f} mm of the hole's axis, which the policy's search covers; 95 % intervals (Wilson). "
        "Last the error of the position across the hole, the median of the attempts' root mean squares. A fault stays.",
        "",
        f"| condition | pose from |{' inserted |' if insertion else ''} first contact beside the hole | error, mm |",
        f"|---|---|{'---|' if insertion else ''}---|---|",
    ]
    for condition in conditions:
        for feed in feeds:
            if outcomes := found.get((feed, condition.name)):
                inserted, reached = (_share([getattr(o, key) for o in outcomes]) for key in ("inserted", "reached"))
                error = float(np.median([outcome.error_mm for outcome in outcomes]))
                shares = f"{inserted} | {reached}" if insertion else reached
                rows.append(f"| {condition.name} | {feed} | {shares} | {error:.1f} |")
    return rows


def _share(successes: Sequence[bool]) -> str:
    result = binomtest(sum(successes), len(successes))
    interval = result.proportion_ci(_CONFIDENCE, method="wilson")
    return f"{100 * result.statistic:.0f} % ({100 * interval.low:.0f} to {100 * interval.high:.0f})"


def _verdicts(found: dict[tuple[str, str], list[Outcome]], feeds: Sequence[str], task: Task, count: int) -> list[str]:
    """Return the table of goals: failures of ours against those of zeros and holding, and against our own with all."""
    ours = _MEMORY if _MEMORY in feeds else _OURS
    rows = [f"Failures out of {count}, of {ours}:", "", "| | measured | goal | met |", "|---|---|---|---|"]
    goals = (("inserted", "insertion"), ("reached", "first contact"))
    for key, what in goals if task is Task.INSERTION else goals[1:]:
        failures = {pair: sum(not getattr(o, key) for o in outcomes) for pair, outcomes in found.items()}
        for condition in _MID_APPROACH:
            mine = failures.get((ours, condition))
            if mine is None:
                continue
            for other in (_ZEROS, _HELD):
                theirs = failures[other, condition]
                rows.append(_row(f"{what}, {condition}, against {other}", mine, 0.5 * theirs, f"half of {theirs}"))
            if (whole := failures.get((ours, CONDITIONS[0].name))) is not None:
                limit = 1.25 * whole + 0.05 * count
                rows.append(_row(f"{what}, {condition}, against all sensors", mine, limit, f"1.25 × {whole} + 5 %"))
    return rows


def _row(what: str, measured: int, limit: float, told: str) -> str:
    return f"| {what} | {measured} | ≤ {limit:g} ({told}) | {'yes' if measured <= limit else '**no**'} |"


if __name__ == "__main__":
    main()

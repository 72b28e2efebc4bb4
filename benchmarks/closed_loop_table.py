"""The tables of the closed loop: shares of success with their intervals, and the goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import binomtest

from benchmarks.closed_loop_heads import HELD, MEMORY, OURS, PLAIN, ZEROS
from benchmarks.insertion import CONDITIONS, LIMIT_S, REACH_M, Condition, Outcome, Task

Found = Mapping[tuple[str, str], Sequence[Outcome]]
"""Outcomes by feed and name of the condition."""
_CONFIDENCE = 0.95


def outcomes(found: Found, feeds: Sequence[str], conditions: Sequence[Condition], task: Task) -> list[str]:
    """Return a row for each condition and feed that made attempts."""
    insertion = task is Task.INSERTION
    rows = [
        f"Attempts {'to the bottom of the hole' if insertion else 'up to the first contact'} within {LIMIT_S:g} "
        "simulated seconds, with the same starts, guesses and moments of failure for each feed, and the same policy: "
        "it goes by a Kalman filter of the readings, weighed by their σ, and of its own commands, and moves slower "
        f"where σ is large. {'First the share that inserted the peg, then the' if insertion else 'The'} share whose "
        f"first contact was within {1e3 * REACH_M:.0f} mm of the hole's axis, which the policy's search covers; 95 % "
        "intervals (Wilson). Last the error of the position across the hole, the median of the attempts' root mean "
        "squares. A fault stays.",
        "",
        f"| condition | pose from | attempts |{' inserted |' if insertion else ''} beside the hole | error, mm |",
        f"|---|---|---|{'---|' if insertion else ''}---|---|",
    ]
    for condition in conditions:
        for feed in feeds:
            if some := found.get((feed, condition.name)):
                inserted, reached = (share([getattr(one, key) for one in some]) for key in ("inserted", "reached"))
                error = float(np.median([one.error_mm for one in some]))
                shares = f"{inserted} | {reached}" if insertion else reached
                rows.append(f"| {condition.name} | {feed} | {len(some)} | {shares} | {error:.1f} |")
    return rows


def share(successes: Sequence[bool]) -> str:
    """Return a share in per cent with its interval."""
    result = binomtest(sum(successes), len(successes))
    interval = result.proportion_ci(_CONFIDENCE, method="wilson")
    return f"{100 * result.statistic:.0f} % ({100 * interval.low:.0f} to {100 * interval.high:.0f})"


def verdicts(found: Found, task: Task) -> list[str]:
    """Return the table of goals: failures of ours against those of zeros and holding, and against our own with all.

    The conditions are those with a sensor that fails in mid-approach. Only feeds with as many attempts are compared.
    """
    ours = MEMORY if any(feed == MEMORY for feed, _ in found) else OURS
    rows = [f"Failures of {ours}:", "", "| | measured | goal | met |", "|---|---|---|---|"]
    goals = (("inserted", "insertion"), ("reached", "first contact"))
    for key, what in goals if task is Task.INSERTION else goals[1:]:
        failures = {pair: sum(not getattr(one, key) for one in some) for pair, some in found.items()}
        for name in [condition.name for condition in CONDITIONS if condition.name.endswith("while aligning")]:
            if not (count := len(found.get((ours, name), ()))):
                continue
            mine = failures[ours, name]
            for other in (ZEROS, HELD, PLAIN):
                if len(found.get((other, name), ())) == count:
                    theirs = failures[other, name]
                    told = f"{what}, {name}, against {other}"
                    rows.append(_row(told, mine, count, 0.5 * theirs, f"half of {theirs}"))
            if len(found.get((ours, CONDITIONS[0].name), ())) == count:
                whole = failures[ours, CONDITIONS[0].name]
                told = f"{what}, {name}, against all sensors"
                rows.append(_row(told, mine, count, 1.25 * whole + 0.05 * count, f"1.25 × {whole} + 5 %"))
    return rows


def _row(what: str, measured: int, count: int, limit: float, told: str) -> str:
    met = "yes" if measured <= limit else "**no**"
    return f"| {what} | {measured} of {count} | ≤ {limit:g} ({told}) | {met} |"

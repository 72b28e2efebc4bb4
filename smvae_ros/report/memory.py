"""The report's section on memory: how old it was, how much it weighed, and for how long it replaced what was off."""

from __future__ import annotations

from html import escape
from itertools import pairwise

import numpy as np

from smvae_ros.report.findings import trivial_errors
from smvae_ros.report.results import SET, Results, Sets
from smvae_ros.report.tables import nmse_cell, pairs
from smvae_ros.report.words import percent

AGES = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Bounds of the times since a modality was last in a set, in seconds."""


def memory_section(results: Results) -> str:
    """Return how memory did, and the errors by the time since a modality was last there; or that there is no memory."""
    sets = results.sets
    known = sets.memory_age[np.isfinite(sets.memory_age)]
    if not len(known):
        return "<p>The checkpoint has no memory: every set stands for itself.</p>" + _off(results)
    begun = percent(len(known) / len(sets.memory_age))
    facts = pairs(
        [
            ("sets that began with memory", f"{len(known):,} of {len(sets.memory_age):,} ({begun})"),
            ("age of memory, median and most", f"{float(np.median(known)):.2f} s, {float(known.max()):.2f} s"),
            ("weight of memory in the sets, mean", percent(float(np.nanmean(sets.attention_of_memory)))),
        ]
    )
    return facts + _off(results)


def seconds_off(sets: Sets, name: str) -> np.ndarray:
    """Return for each set the seconds since the modality was last in one; NaN where it is, or was not yet, (N,)."""
    last, jump, found = np.nan, 0, np.full(len(sets.seconds), np.nan)
    for i, (seconds, present) in enumerate(zip(sets.seconds, sets.present[name])):
        while jump < len(sets.jumps) and sets.jumps[jump] <= seconds:
            # What was before is another time.
            last, jump = np.nan, jump + 1
        if present:
            last = seconds
        else:
            found[i] = seconds - last
    return found


def horizon(errors: list[float | None]) -> float:
    """Return up to which of `AGES` all errors that there are lie below that of the mean; 0 for none."""
    beaten = 0.0
    for age, error in zip(AGES, errors):
        if error is not None and error >= 1.0:
            break
        beaten = age if error is not None else beaten
    return beaten


def nmse_by_age(results: Results, name: str, trivial: float) -> list[float | None]:
    """Return the NMSE of a modality in sets without it, for each of `AGES`; None where there is no such set."""
    off, error = seconds_off(results.sets, name), results.sets.errors[name][SET]
    found: list[float | None] = []
    for least, most in pairwise((0.0, *AGES)):
        of_age = error[(off > least) & (off <= most) & np.isfinite(error)]
        found.append(float(of_age.mean()) / trivial if len(of_age) else None)
    return found


def _off(results: Results) -> str:
    rows = []
    for name, trivial in trivial_errors(results).items():
        if name not in results.sets.present:
            continue
        errors = nmse_by_age(results, name, trivial)
        if any(error is not None for error in errors):
            until = horizon(errors)
            beaten = f"{until:g} s" if until else "never"
            cells = "".join(nmse_cell(error, given=False) for error in errors)
            rows.append(f'<tr><th scope="row" class="text">{escape(name)}</th>{cells}<td>{beaten}</td></tr>')
    if not rows:
        return "<p>No modality that was there before was ever missing.</p>"
    head = "".join(
        f'<th scope="col">{word}</th>' for word in (*(f"{age:g} s" for age in AGES), "better than the mean up to")
    )
    return (
        '<p class="note">NMSE of a modality that is missing, by the time since it was last in a set.</p>'
        f'<div class="scroll"><table id="memory-table"><thead><tr><th scope="col" class="text">Missing, for up to</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )

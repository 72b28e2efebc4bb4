"""The three questions that the report answers first, in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smvae_ros.report.results import SET, Results, Sets
from smvae_ros.report.words import FAIR, clock, duration, percent, verdict

SILENCE_S = 0.25
"""Shorter times without any set count as the usual spacing."""


@dataclass(frozen=True)
class Finding:
    """A question and its answer; `verdict` is good, fair, weak, bad or none, and `word` is the text shown for it."""

    question: str
    verdict: str
    word: str
    answer: str
    details: list[str]


@dataclass(frozen=True)
class Outage:
    """A time without a modality, in seconds from the bag's start."""

    name: str
    start: float
    end: float
    sets: int


def findings(results: Results) -> list[Finding]:
    """Return the answers to the first questions of a robotics engineer."""
    return [_goodness(results), _absences(results.sets), _without_cameras(results)]


def outages(sets: Sets) -> list[Outage]:
    """Return every stretch of sets without a modality, longest first; a stretch lasts until the set after it."""
    found = []
    ends = np.append(sets.seconds[1:], sets.seconds[-1:])
    for name, present in sets.present.items():
        edges = np.flatnonzero(np.diff(np.concatenate(([0], ~present, [0]))))
        for first, after in zip(edges[::2], edges[1::2]):
            found.append(Outage(name, float(sets.seconds[first]), float(ends[after - 1]), int(after - first)))
    return sorted(found, key=lambda outage: outage.start - outage.end)


def silences(sets: Sets) -> list[tuple[float, float]]:
    """Return the times, in seconds, in which no set went out: at least `SILENCE_S` and five times the usual spacing."""
    spacing = np.diff(sets.seconds)
    if not len(spacing):
        return []
    long = np.flatnonzero(spacing > max(SILENCE_S, 5 * float(np.median(spacing))))
    return [(float(sets.seconds[i]), float(sets.seconds[i + 1])) for i in long]


def trivial_errors(results: Results) -> dict[str, float]:
    """Return by modality the mean squared error of always predicting the training mean, over the largest sets judged.

    A modality that never differs from its mean has none.
    """
    trivial: dict[str, float] = {}
    for row in results.summary.evaluation.subsets:
        for name in row.nmse:
            if name in row.trivial:
                trivial.setdefault(name, row.trivial[name])
    return trivial


def most_held(results: Results) -> list[str]:
    """Return the modalities of the largest sets in the bag: all of them, unless one is missing throughout."""
    rows = [row for row in results.summary.evaluation.subsets if row.samples]
    return list(max(rows, key=lambda row: (len(row.subset), row.samples)).subset) if rows else []


def nmse_from(results: Results, subset: list[str]) -> dict[str, float]:
    """Return by modality the normalised error of predictions from one subset."""
    for row in results.summary.evaluation.subsets:
        if set(row.subset) == set(subset):
            return row.nmse
    return {}


def _goodness(results: Results) -> Finding:
    question = "How good was the fusion?"
    held = most_held(results)
    whole = nmse_from(results, held)
    if not whole:
        return Finding(question, "none", "", "No set held a modality that could be judged.", [])
    ranked = sorted(whole, key=lambda name: whole[name])
    best, worst = ranked[0], ranked[-1]
    samples = results.summary.evaluation.of(*held).samples
    source = _all(results)
    these = "all modalities" if len(held) == len(results.names) else " + ".join(held)
    ranking = (
        f"{best} is predicted best and {worst} worst: what is left is {percent(whole[best])} "
        f"and {percent(whole[worst])}"
        if best != worst
        else f"only {best} can be judged: what is left is {percent(whole[best])}"
    )
    answer = (
        f"From {source}, {ranking} of the squared error of always guessing the training mean, "
        f"over the {samples:,} sets that had {'everything' if len(held) == len(results.names) else 'these'}."
    )
    trivial = trivial_errors(results)
    details = []
    for name in results.names:
        line = f"{name}: {percent(whole[name])} from {these}" if name in whole else f"{name}: not judged"
        came = results.sets.errors[name].get(SET)
        if came is not None and name in trivial and np.isfinite(came).any():
            line += f", {percent(float(np.nanmean(came)) / trivial[name])} from the sets as they came"
        details.append(line)
    word = verdict(whole[worst])
    return Finding(question, word, word, answer, details)


def _absences(sets: Sets) -> Finding:
    found = outages(sets)
    missing = {name: float(np.mean(~present)) for name, present in sets.present.items()}
    details = []
    for name, share in missing.items():
        mine = [outage for outage in found if outage.name == name]
        if not mine:
            details.append(f"{name}: never")
            continue
        longest = mine[0]
        times = "once" if len(mine) == 1 else f"{len(mine):,} times"
        details.append(
            f"{name}: {times}, in {percent(share)} of the sets; longest {duration(longest.end - longest.start)} "
            f"({longest.sets:,} set{'s' * (longest.sets > 1)}) from {clock(longest.start)}"
        )
    question = "Which modality was out, and when?"
    if gaps := silences(sets):
        start, end = max(gaps, key=lambda gap: gap[1] - gap[0])
        times = "once" if len(gaps) == 1 else f"{len(gaps):,} times"
        details.append(f"no set at all: {times}; longest {duration(end - start)} from {clock(start)}")
    if not found and gaps:
        total = duration(sum(end - start for start, end in gaps))
        answer = f"Every set had every modality, but for {total} there was no set at all."
        return Finding(question, "fair", f"{total} without a set", answer, details[-1:])
    if not found:
        return Finding(question, "good", "none", "None: every set had every modality.", [])
    worst = max(missing, key=lambda name: missing[name])
    first = next(outage for outage in found if outage.name == worst)
    whole = float(np.mean(np.all(list(sets.present.values()), axis=0)))
    answer = (
        f"{worst} was missing most, from {percent(missing[worst])} of the sets, for up to "
        f"{duration(first.end - first.start)} from {clock(first.start)}. "
        f"{percent(whole)} of the sets had every modality."
    )
    return Finding(question, verdict(1 - whole), f"{percent(1 - whole)} incomplete", answer, details)


def _without_cameras(results: Results) -> Finding:
    cameras = results.cameras
    question = "Would it have held without the camera?"
    held = most_held(results)
    whole = nmse_from(results, held)
    if not cameras:
        return Finding(question, "none", "", "There is no camera.", [])
    cameras = [name for name in cameras if name in held]
    if not whole:
        return Finding(question, "none", "", "No set held a modality that could be judged.", [])
    if not cameras:
        word = verdict(max(whole.values()))
        return Finding(question, word, word, f"No set had a camera. By {' + '.join(held)}, {_how_it_held(whole)}", [])
    rest = [name for name in held if name not in cameras]
    cases = [(f"without {name}", [n for n in held if n != name]) for name in cameras]
    if len(cameras) > 1 and rest:
        cases.append((f"without any camera, by {' + '.join(rest)}", rest))
    details, judged = [], []
    for title, subset in cases:
        found = nmse_from(results, subset)
        if found:
            judged.append((title, found))
            details.append(f"{title}: " + ", ".join(f"{name} {percent(found[name])}" for name in found))
    if not judged:
        return Finding(question, "none", "", "There is no modality but the camera.", [])
    sentences = [f"{title[0].upper()}{title[1:]}, {_how_it_held(found)}" for title, found in (judged[0], judged[-1])]
    # The worst case counts: one device often brings colour and depth, so that both fail at once.
    word = verdict(max(judged[-1][1].values()))
    in_full = ", ".join(f"{name} {percent(nmse)}" for name, nmse in whole.items())
    details.append(f"for comparison, from {_all(results)}: {in_full}")
    return Finding(question, word, word, " ".join(dict.fromkeys(sentences)), details)


def _how_it_held(found: dict[str, float]) -> str:
    lost = [name for name, nmse in found.items() if nmse >= 1.0]
    weak = [name for name, nmse in found.items() if FAIR < nmse < 1.0]
    if lost:
        return f"{_and(lost)} would have been no better than guessing the mean."
    if weak:
        return f"only weakly: {_and(weak)} would have kept more than {percent(FAIR)} of the mean's error."
    worst = max(found, key=lambda name: found[name])
    return (
        f"it would: every modality stays below {percent(FAIR)} of the mean's error "
        f"(worst {worst}, {percent(found[worst])})."
    )


def _all(results: Results) -> str:
    """Return a name for `most_held`."""
    held = most_held(results)
    return "all modalities" if len(held) == len(results.names) else f"{' + '.join(held)}, the most that a set held"


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

"""The questions that the report answers first, in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smvae_ros.replay.summary import Fault
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
    return [_goodness(results), _absences(results.sets), _without_cameras(results), *_lies(results)]


@dataclass(frozen=True, eq=False)
class Doubt:
    """A time in which a modality was distrusted, in seconds from the bag's start.

    Attributes:
        with_it: by other modality, error while it lasted from sets with the modality, as a part of the training mean's.
        without_it: by other modality, the same from sets without it.
    """

    name: str
    start: float
    end: float
    with_it: dict[str, float]
    without_it: dict[str, float]


def doubts(results: Results) -> list[Doubt]:
    """Return every stretch of sets in which a modality was distrusted, in order of time."""
    sets, trivial = results.sets, trivial_errors(results)
    ends = np.append(sets.seconds[1:], sets.seconds[-1:])
    found = []
    for name, distrusted in sets.distrusted.items():
        rest = "+".join(other for other in results.names if other != name)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], distrusted, [0]))))
        for first, after in zip(edges[::2], edges[1::2]):
            costs: list[dict[str, float]] = []
            # What was dropped is not in the sets.
            for source in ("+".join(results.names), SET) if dropped(name, results) else (SET, rest):
                errors = {
                    other: sets.errors[other][source][first:after]
                    for other in results.names
                    if other != name and other in trivial and source in sets.errors[other]
                }
                costs.append(
                    {
                        other: float(np.nanmean(values)) / trivial[other]
                        for other, values in errors.items()
                        if np.isfinite(values).any()
                    }
                )
            found.append(Doubt(name, float(sets.seconds[first]), float(ends[after - 1]), *costs))
    return sorted(found, key=lambda doubt: doubt.start)


def noticed(fault: Fault, found: list[Doubt]) -> Doubt | None:
    """Return the first time of distrust that began during a fault; None if it was not noticed."""
    within = (doubt for doubt in found if doubt.name == fault.modality and doubt.start >= fault.start)
    return next((doubt for doubt in within if fault.end is None or doubt.start < fault.end), None)


def dropped(name: str, results: Results) -> bool:
    """Return whether a modality leaves the sets while it is distrusted."""
    return results.summary.settings.streams[name].distrust == "drop"


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


def _lies(results: Results) -> list[Finding]:
    """Return the answer to whether a sensor lied; nothing where the checkpoint cannot tell."""
    sets = results.sets
    if not sets.distrusted:
        return []
    question = "Did a sensor lie?"
    found = doubts(results)
    details = [_doubt(doubt, results) for doubt in found]
    for fault in results.summary.what_if.faults:
        if fault.kind in ("drop", "delay") or fault.modality not in sets.distrusted:
            continue
        first = noticed(fault, found)
        told = f"noticed after {first.start - fault.start:.2f} s" if first else "not noticed: nothing contradicted it"
        details.append(f"--{fault.kind} of {fault.modality} {fault.interval}: {told}")
    if not found:
        least = min(float(np.nanmin(trust)) for trust in sets.trust.values() if np.isfinite(trust).any())
        return [Finding(question, "good", "no", f"None was distrusted; the least trust was {least:.2f}.", details)]
    names = list(dict.fromkeys(doubt.name for doubt in found))
    answer = f"{_and(names)} contradicted what else was known, and {'was' if len(names) == 1 else 'were'} distrusted."
    return [Finding(question, "weak", "yes", answer, details)]


def _doubt(doubt: Doubt, results: Results) -> str:
    words = f"{doubt.name}: from {clock(doubt.start)} to {clock(doubt.end)}, "
    words += "out of the sets" if dropped(doubt.name, results) else "in the sets all the same"
    both = [name for name in doubt.with_it if name in doubt.without_it]
    if not both:
        return words
    costs = (f"{name} {percent(doubt.with_it[name])}, {percent(doubt.without_it[name])} with drop" for name in both)
    return f"{words}; error of the others: {'; '.join(costs)}"


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

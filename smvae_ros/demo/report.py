"""The result of the demo, judged against what was recorded: numbers, a table and a sheet of pictures."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from smvae_core.modality import Modality
from smvae_core.plots.sheets import depth_picture, depth_range, picture_sheet
from smvae_core.scores import normalised
from smvae_ros.conversions.arrays import raw_array
from smvae_ros.conversions.bindings import bind
from smvae_ros.demo.player import Change, Recorded

Subset = tuple[str, ...]

_NEAR_NS = 30_000_000
_COLUMNS = 8


@dataclass
class Pass:
    """One time through the piece.

    Attributes:
        title: what was played, in words.
        subset: modalities that were played; where there is a change, those that are to be in the sets after it.
        start_ns: stamp of the beginning, system clock.
        end_ns: stamp of the end.
        change: what became of some modalities in the middle; None if nothing.
    """

    title: str
    subset: Subset
    start_ns: int
    end_ns: int
    change: Change | None = None

    def judged(self, stamps: Iterable[int]) -> list[int]:
        """Return the stamps that lie in this pass, after its change."""
        begin_ns = self.start_ns + (self.change.at_ns if self.change is not None else 0)
        return [stamp_ns for stamp_ns in stamps if begin_ns <= stamp_ns < self.end_ns]


@dataclass
class Heard:
    """The messages that came back from the node.

    Attributes:
        latents: by stamp, the modalities of the set.
        distrusted: by stamp, the modalities that the latent names as distrusted.
        latencies_ns: by stamp, from the publication of the set's newest sample to the latent's arrival.
        predictions: by modality and stamp, the message on `~/predicted/...`.
    """

    latents: dict[int, Subset] = field(default_factory=dict)
    distrusted: dict[int, Subset] = field(default_factory=dict)
    latencies_ns: dict[int, int] = field(default_factory=dict)
    predictions: dict[str, dict[int, Any]] = field(default_factory=lambda: defaultdict(dict))


class Truth:
    """The recorded messages, by modality and moment.

    Args:
        piece: a piece whose topics are named by modality.
    """

    def __init__(self, piece: Iterable[Recorded], modalities: Sequence[Modality]) -> None:
        self._stamps: dict[str, list[int]] = {modality.name: [] for modality in modalities}
        self._messages: dict[str, list[Any]] = {modality.name: [] for modality in modalities}
        for recorded in sorted(piece, key=lambda message: message.stamp_ns):
            if recorded.topic in self._stamps:
                self._stamps[recorded.topic].append(recorded.stamp_ns)
                self._messages[recorded.topic].append(recorded.message)

    def message(self, name: str, stamp_ns: int) -> Any | None:
        """Return the message nearest to a stamp from the start of the piece; None if none is near."""
        stamps = self._stamps[name]
        place = bisect_left(stamps, stamp_ns)
        near = [i for i in (place - 1, place) if 0 <= i < len(stamps) and abs(stamps[i] - stamp_ns) <= _NEAR_NS]
        if not near:
            return None
        return self._messages[name][min(near, key=lambda i: abs(stamps[i] - stamp_ns))]


def model_units(modality: Modality, message: Any) -> np.ndarray:
    """Return the content of one message in model units; of a force window its newest sample, (C,)."""
    (binding,) = bind([modality], {})
    array = modality.to_model(raw_array(binding, [message]))
    return array[:, -1] if modality.preprocessing.kind == "force" else array


def summarise(
    passes: Sequence[Pass], heard: Heard, truth: Truth, modalities: Sequence[Modality], means: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Return the numbers of the demo, ready for JSON.

    Args:
        means: by modality, the training mean in model units, (*shape): the trivial prediction.
    """
    stamps_by_subset: dict[Subset, list[int]] = defaultdict(list)
    for stamp_ns, subset in sorted(heard.latents.items()):
        stamps_by_subset[subset].append(stamp_ns)
    ordered = sorted(stamps_by_subset, key=lambda subset: -len(stamps_by_subset[subset]))
    return {
        "latents_published": len(heard.latents),
        "latency_ms": _percentiles(heard.latencies_ns.values()),
        "sets_by_subset": {"+".join(subset): len(stamps_by_subset[subset]) for subset in ordered},
        "errors_by_subset": {
            "+".join(subset): _errors(stamps_by_subset[subset], passes, heard, truth, modalities, means)
            for subset in ordered
        },
        "passes": [_summarise_pass(one, passes, heard, truth, modalities, means) for one in passes],
    }


def table(summary: dict[str, Any], modalities: Sequence[Modality]) -> Table:
    """Return a table with a row for each pass; "of these" counts sets of exactly the modalities played."""
    names = [modality.name for modality in modalities]
    result = Table(
        title="NMSE of each prediction (1: as far off as the training mean);\n"
        "latency (ms) from a set's newest sample to its latent"
    )
    result.add_column("played", no_wrap=True)
    for heading in ("latents", "of these", "p50", "p99", *names):
        result.add_column(heading, justify="right")
    for one in summary["passes"]:
        errors = one["errors"]
        found = [errors.get(name, {}).get("nmse") for name in names]
        result.add_row(
            one["title"],
            str(one["latents"]),
            str(one["sets_by_subset"].get(one["subset"], 0)),
            *(f"{one['latency_ms'][key]:.1f}" for key in ("p50", "p99")),
            *("–" if nmse is None else f"{nmse:.2f}" for nmse in found),
        )
    return result


def draw(
    path: Path, passes: Sequence[Pass], heard: Heard, truth: Truth, modalities: Sequence[Modality], seconds: float
) -> None:
    """Draw a sheet: what the cameras saw, and below it what the node predicted from each set; a column is a moment."""
    moments_ns = [round(part * seconds * 1e9) for part in np.linspace(0.16, 0.97, _COLUMNS)]
    images = [modality for modality in modalities if modality.is_image]
    seen = {m.name: [_physical(m, truth.message(m.name, moment)) for moment in moments_ns] for m in images}
    limits = {
        m.name: depth_range(np.stack([x for x in seen[m.name] if x is not None]))
        for m in images
        if m.preprocessing.kind == "depth" and any(x is not None for x in seen[m.name])
    }

    def picture(modality: Modality, physical: np.ndarray | None) -> np.ndarray | None:
        if physical is None or modality.name not in limits:
            return physical
        near, far = limits[modality.name]
        # 0 is no reading; so is a prediction up to half the distance of the nearest surface.
        return depth_picture(np.where(physical < near / 2, 0.0, physical), near, far)

    rows = {f"camera saw: {m.name}": [picture(m, x) for x in seen[m.name]] for m in images}
    for one in passes:
        within = [stamp_ns for stamp_ns in heard.latents if one.start_ns <= stamp_ns < one.end_ns]
        whole = sorted(s for s in within if one.change is not None or set(heard.latents[s]) == set(one.subset))
        for m in images:
            if one.change is not None and m.name in one.change.frozen:
                brought = [truth.message(m.name, min(moment_ns, one.change.at_ns)) for moment_ns in moments_ns]
                rows[f"camera brings: {m.name},\n{_changed(one, heard)}"] = [
                    picture(m, _physical(m, message)) for message in brought
                ]
            if one.change is not None and m.name not in (*one.change.frozen, *one.change.silent):
                continue
            row = []
            for moment_ns in moments_ns:
                stamp_ns = _nearest(whole, one.start_ns + moment_ns)
                row.append(picture(m, _physical(m, heard.predictions[m.name].get(stamp_ns))))
            what = f"from\n{_sentence(one.subset)}" if one.change is None else f"while\n{_changed(one, heard)}"
            rows[f"{m.name} predicted {what}"] = row
    columns = [f"{moment_ns / 1e9:.1f} s" for moment_ns in moments_ns]
    picture_sheet(path, rows, columns)


def _changed(one: Pass, heard: Heard) -> str:
    """Return what became of some modalities in a pass, and when one was named as distrusted, for people."""
    assert one.change is not None
    at_s = one.change.at_ns / 1e9
    if not one.change.frozen:
        return f"{_sentence(one.change.silent)} silent since {at_s:.1f} s"
    named = named_after_s(one, heard)
    verdict = "not named" if named is None else f"named after {named:.1f} s"
    return f"frozen since {at_s:.1f} s, {verdict}"


def named_after_s(one: Pass, heard: Heard) -> float | None:
    """Return the seconds from the change to the first latent that names a frozen modality; None if none does."""
    assert one.change is not None
    frozen, begin_ns = set(one.change.frozen), one.start_ns + one.change.at_ns
    stamps = [s for s in one.judged(heard.distrusted) if frozen & set(heard.distrusted[s])]
    return (min(stamps) - begin_ns) / 1e9 if stamps else None


def _summarise_pass(
    one: Pass,
    passes: Sequence[Pass],
    heard: Heard,
    truth: Truth,
    modalities: Sequence[Modality],
    means: dict[str, np.ndarray],
) -> dict[str, Any]:
    stamps = one.judged(heard.latents)
    whole = [stamp_ns for stamp_ns in stamps if set(heard.latents[stamp_ns]) == set(one.subset)]
    frozen = one.change is not None and one.change.frozen
    subsets = Counter("+".join(heard.latents[stamp_ns]) for stamp_ns in stamps)
    return {
        "title": one.title,
        "subset": "+".join(one.subset),
        "latents": len(stamps),
        "sets_by_subset": dict(subsets.most_common()),
        "errors": _errors(sorted(whole), passes, heard, truth, modalities, means),
        **({"named_after_s": named_after_s(one, heard)} if frozen else {}),
        "latency_ms": _percentiles(
            heard.latencies_ns[stamp_ns] for stamp_ns in stamps if stamp_ns in heard.latencies_ns
        ),
    }


def _errors(
    stamps: Sequence[int],
    passes: Sequence[Pass],
    heard: Heard,
    truth: Truth,
    modalities: Sequence[Modality],
    means: dict[str, np.ndarray],
) -> dict[str, dict[str, float | None]]:
    """Return by modality the samples scored, the mean squared error in model units, and the NMSE."""
    errors: dict[str, dict[str, float | None]] = {}
    for modality in modalities:
        mean = means[modality.name]
        mean = mean[:, -1] if modality.preprocessing.kind == "force" else mean
        squared, trivial = [], []
        for stamp_ns in stamps:
            prediction = heard.predictions[modality.name].get(stamp_ns)
            recorded = _recorded(modality.name, stamp_ns, passes, truth)
            if prediction is not None and recorded is not None:
                expected = model_units(modality, recorded)
                squared.append(float(np.mean((model_units(modality, prediction) - expected) ** 2)))
                trivial.append(float(np.mean((mean - expected) ** 2)))
        if squared:
            errors[modality.name] = {
                "samples": len(squared),
                "mse": float(np.mean(squared)),
                "nmse": normalised(float(np.mean(squared)), float(np.mean(trivial))),
            }
    return errors


def _recorded(name: str, stamp_ns: int, passes: Sequence[Pass], truth: Truth) -> Any | None:
    for one in passes:
        if one.start_ns <= stamp_ns < one.end_ns:
            return truth.message(name, stamp_ns - one.start_ns)
    return None


def _physical(modality: Modality, message: Any | None) -> np.ndarray | None:
    return None if message is None else modality.to_physical(model_units(modality, message))


def _nearest(stamps: Sequence[int], stamp_ns: int) -> int:
    return min(stamps, key=lambda other: abs(other - stamp_ns), default=0)


def _percentiles(nanoseconds: Iterable[int]) -> dict[str, float]:
    values = list(nanoseconds)
    return {f"p{p}": float(np.percentile(values, p)) / 1e6 if values else 0.0 for p in (50, 99)}


def _sentence(subset: Subset) -> str:
    return " + ".join(subset)

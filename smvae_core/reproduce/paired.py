"""Differences of log-likelihoods between two rows, paired by test point, with their standard errors.

All rows are judged on the same test points. Points differ from each other by far more than rows do, so the difference
at each point says much more than the difference of two means.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

FIGURES = ("joint", "marginal", "conditional")
POINTS = "points.npz"
"""File beside a result: the log-likelihood of each test point, by figure, (N,), nats."""

Points = Mapping[str, NDArray[Any]]


class Difference(BaseModel):
    """The difference of one row to the reference row.

    Attributes:
        row: name of the row.
        reference: name of the row that it is compared with.
        seeds: number of seeds that both have. Each point is first averaged over them.
        points: number of test points.
        mean: by figure, mean difference in nats; positive where `row` is better.
        error: by figure, its standard error over the test points.
        spread: by figure, standard deviation of the mean difference over the seeds; empty with one seed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    row: str
    reference: str
    seeds: int
    points: int
    mean: dict[str, float]
    error: dict[str, float]
    spread: dict[str, float] = {}


def write_points(path: Path, points: Points) -> None:
    """Write the log-likelihoods of the test points.

    Raises:
        OSError: the file cannot be written.
    """
    joint, marginal, conditional = (np.asarray(points[name], np.float32) for name in FIGURES)
    np.savez_compressed(path, joint=joint, marginal=marginal, conditional=conditional)


def read_points(path: Path) -> Points | None:
    """Return what `write_points` wrote; None if there is no such file, as beside results of version 0.1."""
    if not path.exists():
        return None
    with np.load(path) as file:
        return {name: file[name].astype(np.float64) for name in FIGURES}


def differences(found: Mapping[str, Mapping[int, Points]]) -> list[Difference]:
    """Compare each row with the first.

    Args:
        found: by row and seed, the log-likelihoods of the same test points.
    """
    if len(found) < 2:
        return []
    (reference, own), *others = found.items()
    compared = (_difference(name, seeds, reference, own) for name, seeds in others)
    return [difference for difference in compared if difference is not None]


def _difference(name: str, seeds: Mapping[int, Points], reference: str, own: Mapping[int, Points]) -> Difference | None:
    shared = sorted(seeds.keys() & own.keys())
    if not shared or any(len(seeds[s]["joint"]) != len(own[s]["joint"]) for s in shared):
        return None
    by_seed = {f: np.stack([seeds[s][f] - own[s][f] for s in shared]) for f in FIGURES}
    count = by_seed["joint"].shape[1]
    return Difference(
        row=name,
        reference=reference,
        seeds=len(shared),
        points=count,
        mean={f: float(x.mean()) for f, x in by_seed.items()},
        error={f: float(x.mean(axis=0).std(ddof=1) / math.sqrt(count)) for f, x in by_seed.items()},
        spread={f: float(x.mean(axis=1).std(ddof=1)) for f, x in by_seed.items()} if len(shared) > 1 else {},
    )


def told(found: Sequence[Difference]) -> str:
    """Return how the differences were computed, in a sentence."""
    if not found:
        return ""
    first = found[0]
    sentence = (
        f"Difference to {first.reference} in nats, paired by test point: mean ± its standard error over "
        f"{first.points:,} points; positive is better."
    )
    if not first.spread:
        return sentence
    return f"{sentence} Each point is averaged over {first.seeds} seeds; in brackets the spread over seeds."

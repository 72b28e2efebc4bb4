"""Subsets of a model's modalities, and evenly spaced samples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # torch takes seconds to import, and most users of this module do without
    import torch

Subset = tuple[str, ...]

MOST_MODALITIES = 6
"""A model of more modalities is judged on some subsets only: their number doubles with each."""


def all_subsets(names: Sequence[str]) -> list[Subset]:
    """Return every non-empty subset, largest first: 15 of four modalities."""
    return [subset for size in range(len(names), 0, -1) for subset in combinations(names, size)]


def few_subsets(names: Sequence[str]) -> list[Subset]:
    """Return all modalities, all but one, and single ones, largest first: 9 subsets of four modalities."""
    names = tuple(names)
    without_one = [tuple(n for n in names if n != name) for name in names]
    return list(dict.fromkeys(s for s in [names, *without_one, *((name,) for name in names)] if s))


def judged_subsets(names: Sequence[str]) -> list[Subset]:
    """Return the subsets that a model is judged on, largest first: all of up to `MOST_MODALITIES`, else a few."""
    return all_subsets(names) if len(names) <= MOST_MODALITIES else few_subsets(names)


def told_subsets(names: Sequence[str]) -> str:
    """Return in words which subsets `judged_subsets` returns."""
    if len(names) <= MOST_MODALITIES:
        return "all subsets"
    return f"{len(few_subsets(names))} subsets (all {len(names)} modalities, all but one, and single ones)"


def in_words(subset: Sequence[str], names: Sequence[str]) -> str:
    """Return the modalities of a subset in words; of more than `MOST_MODALITIES`, those that it lacks if these are few.

    Args:
        names: all modalities.
    """
    lacking = [name for name in names if name not in subset]
    if len(names) <= MOST_MODALITIES or len(lacking) > 1:
        return " + ".join(subset)
    return f"all but {lacking[0]}" if lacking else f"all {len(names)}"


def subset_mask(names: Sequence[str], subsets: Sequence[Subset], device: torch.device | None = None) -> torch.Tensor:
    """Return which modality (column) is in which subset (row), bool (len(subsets), len(names))."""
    import torch

    return torch.tensor([[name in subset for name in names] for subset in subsets], dtype=torch.bool, device=device)


def evenly(count: int, most: int | None) -> NDArray[np.int64]:
    """Return at most `most` of the numbers 0 … count - 1, evenly spaced; all of them if `most` is None."""
    return np.linspace(0, count - 1, count if most is None else min(most, count)).astype(np.int64)

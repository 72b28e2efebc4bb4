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


def all_subsets(names: Sequence[str]) -> list[Subset]:
    """Return every non-empty subset, largest first: 15 of four modalities."""
    return [subset for size in range(len(names), 0, -1) for subset in combinations(names, size)]


def subset_mask(names: Sequence[str], subsets: Sequence[Subset], device: torch.device | None = None) -> torch.Tensor:
    """Return which modality (column) is in which subset (row), bool (len(subsets), len(names))."""
    import torch

    return torch.tensor([[name in subset for name in names] for subset in subsets], dtype=torch.bool, device=device)


def evenly(count: int, most: int | None) -> NDArray[np.int64]:
    """Return at most `most` of the numbers 0 … count - 1, evenly spaced; all of them if `most` is None."""
    return np.linspace(0, count - 1, count if most is None else min(most, count)).astype(np.int64)

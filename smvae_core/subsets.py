"""Subsets of a model's modalities."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

Subset = tuple[str, ...]


def all_subsets(names: Sequence[str]) -> list[Subset]:
    """Every non-empty subset, largest first: 15 of four modalities."""
    return [subset for size in range(len(names), 0, -1) for subset in combinations(names, size)]


def subset_mask(names: Sequence[str], subsets: Sequence[Subset], device: torch.device | None = None) -> Tensor:
    """(len(subsets), len(names)), bool."""
    return torch.tensor([[name in subset for name in names] for subset in subsets], dtype=torch.bool, device=device)


def evenly(count: int, most: int | None) -> np.ndarray:
    """At most `most` of 0 … count - 1, evenly spaced."""
    return np.linspace(0, count - 1, count if most is None else min(most, count)).astype(int)

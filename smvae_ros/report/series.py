"""Long columns of numbers made small for the page: least, most and mean of a limited number of spans."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

SPANS = 6000
"""Most spans of a bag; with fewer sets, every set is a span."""

_NOTHING = 65535


class Spans:
    """A division of N sets into at most `SPANS` spans of neighbours."""

    def __init__(self, seconds: np.ndarray) -> None:
        self._sets = len(seconds)
        self._starts = np.unique(np.linspace(0, self._sets, min(SPANS, self._sets), endpoint=False).astype(int))
        self.seconds = _float32(seconds[self._starts])

    def __len__(self) -> int:
        return len(self._starts)

    def series(self, values: np.ndarray) -> dict[str, Any]:
        """Pack (N,) values for `unpack` of view.js; NaN means that there is nothing."""
        with np.errstate(invalid="ignore"):
            least = np.fmin.reduceat(values, self._starts)
            most = np.fmax.reduceat(values, self._starts)
        finite = np.isfinite(least)
        low, high = (float(least[finite].min()), float(most[finite].max())) if finite.any() else (0.0, 1.0)
        packed: dict[str, Any] = {"low": low, "high": high, "mean": _packed(self._mean(values), low, high)}
        if len(self) < self._sets:
            packed |= {"least": _packed(least, low, high), "most": _packed(most, low, high)}
        return packed

    def means(self, values: np.ndarray) -> dict[str, Any]:
        """Pack (N,) shares from 0 to 1, as means alone."""
        return {"low": 0.0, "high": 1.0, "mean": _packed(self._mean(values), 0.0, 1.0)}

    def _mean(self, values: np.ndarray) -> np.ndarray:
        finite = np.isfinite(values)
        sums = np.add.reduceat(np.where(finite, values, 0.0), self._starts)
        counts = np.add.reduceat(finite.astype(int), self._starts)
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def standing(values: np.ndarray, where: np.ndarray, seconds: np.ndarray, longest: float) -> np.ndarray:
    """Return values (N,) of which each also stands for the sets that follow it, up to the next value.

    Args:
        where: the rows that may take the value of an earlier one, bool (N,).
        seconds: time of each row, (N,).
        longest: seconds for which a value stands at most.
    """
    rows = np.arange(len(values))
    source = np.maximum.accumulate(np.where(np.isfinite(values), rows, 0))
    fresh = where & (seconds - seconds[source] <= longest)
    return np.where(fresh, values[source], values)


def _packed(values: np.ndarray, low: float, high: float) -> str:
    """Encode values from `low` to `high` as little-endian uint16 in base64; the highest number stands for nothing."""
    steps = np.rint((values - low) / max(high - low, 1e-30) * (_NOTHING - 1))
    whole = np.where(np.isfinite(steps), np.clip(steps, 0, _NOTHING - 1), _NOTHING)
    return base64.b64encode(whole.astype("<u2").tobytes()).decode()


def _float32(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()

"""The statistics of a LeRobot data set, summed up part by part."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# Pictures are thinned out: their statistics need not be exact.
_PICTURE_STEP, _PIXEL_STEP = 10, 4


class Statistics:
    """Smallest, largest and mean value and standard deviation of each feature; of pictures by channel, in 0 to 1."""

    def __init__(self) -> None:
        self._pictures: set[str] = set()
        self._low: dict[str, np.ndarray] = {}
        self._high: dict[str, np.ndarray] = {}
        self._sums: dict[str, np.ndarray] = {}
        self._squares: dict[str, np.ndarray] = {}
        self._rows: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def add(self, steps: Mapping[str, np.ndarray]) -> None:
        """Add steps, by feature."""
        for key, values in steps.items():
            rows, count = _rows(values)
            self._shapes[key] = values.shape[1:] or (1,)
            if _is_picture(values):
                self._pictures.add(key)
            low, high = rows.min(axis=0), rows.max(axis=0)
            if key in self._low:
                low, high = np.minimum(low, self._low[key]), np.maximum(high, self._high[key])
            self._low[key], self._high[key] = low, high
            self._sums[key] = self._sums.get(key, np.zeros_like(low)) + rows.sum(axis=0)
            self._squares[key] = self._squares.get(key, np.zeros_like(low)) + np.square(rows).sum(axis=0)
            self._rows[key] = self._rows.get(key, 0) + len(rows)
            self._counts[key] = self._counts.get(key, 0) + count

    def as_json(self) -> dict[str, Any]:
        """Return the content of `stats.json`."""
        found: dict[str, Any] = {}
        for key, low in self._low.items():
            mean = self._sums[key] / self._rows[key]
            spread = np.sqrt(np.maximum(self._squares[key] / self._rows[key] - np.square(mean), 0.0))
            figures = {"min": low, "max": self._high[key], "mean": mean, "std": spread}
            shape = (3, 1, 1) if key in self._pictures else self._shapes[key]
            found[key] = {name: value.reshape(shape).tolist() for name, value in figures.items()}
            found[key]["count"] = [self._counts[key]]
        return found


def _is_picture(values: np.ndarray) -> bool:
    return values.ndim == 4 and values.dtype == np.uint8


def _rows(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Return values as rows of float64, one column per entry or channel, and the number of steps that they are from."""
    if _is_picture(values):
        few = values[::_PICTURE_STEP, ::_PIXEL_STEP, ::_PIXEL_STEP]
        return few.reshape(-1, few.shape[-1]) / 255.0, len(few)
    return values.reshape(len(values), -1).astype(np.float64), len(values)

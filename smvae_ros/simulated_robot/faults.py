"""The ways in which a sensor of the simulated robot can fail, as changes of what it measures and of when."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

ImageFault = Literal["none", "unplugged", "frozen", "blank", "dark", "covered", "noisy", "late", "wrong_stamp"]
NumberFault = Literal["none", "unplugged", "frozen", "zero", "biased", "noisy", "late", "wrong_stamp"]

IMAGE_FAULTS: tuple[str, ...] = get_args(ImageFault)
NUMBER_FAULTS: tuple[str, ...] = get_args(NumberFault)

LATE_NS = 120_000_000
"""Delay of the messages of a sensor that is `late`; their stamps stay right."""
WRONG_STAMP_NS = -500_000_000
"""Offset of the stamps of a sensor with a `wrong_stamp`; its messages arrive in time."""

_DARK = 0.15
_NOISY_GREY, _NOISY_METRES = 60.0, 0.3


class ImageSensor:
    """One camera's pictures as its fault leaves them.

    Attributes:
        fault: one of `IMAGE_FAULTS`; may change at any time.
        noise: standard deviation that is added to healthy pictures, in grey levels (RGB) or metres (depth).
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.fault = "none"
        self.noise = 0.0
        self._rng = rng
        self._last: np.ndarray | None = None

    def measure(self, picture: np.ndarray) -> np.ndarray | None:
        """Return what the camera brings of a picture, uint8 (H, W, 3) RGB or float32 (H, W) metres; None: nothing."""
        if self.fault == "unplugged":
            return None
        if self.fault == "frozen" and self._last is not None and self._last.shape == picture.shape:
            return self._last
        colour = picture.dtype == np.uint8
        spread = {"noisy": _NOISY_GREY if colour else _NOISY_METRES}.get(self.fault, self.noise)
        seen = self._noisy(picture, spread) if spread else picture
        if self.fault == "blank":
            seen = np.zeros_like(picture)
        elif self.fault == "dark":
            # A depth camera has no brightness: in the dark it loses most of its pixels.
            seen = (seen * _DARK).astype(np.uint8) if colour else np.where(self._kept(picture.shape), seen, 0.0)
        elif self.fault == "covered":
            seen = seen.copy()
            seen[:, : picture.shape[1] // 2] = 0
        self._last = seen
        return seen

    def _noisy(self, picture: np.ndarray, spread: float) -> np.ndarray:
        noisy = picture + self._rng.normal(0.0, spread, picture.shape)
        limit = 255.0 if picture.dtype == np.uint8 else np.inf
        return np.asarray(noisy.clip(0.0, limit)).astype(picture.dtype)

    def _kept(self, shape: tuple[int, ...]) -> np.ndarray:
        return self._rng.random(shape) < _DARK


class NumberSensor:
    """Numbers of a sensor, such as a wrench or joint positions, as its fault leaves them.

    Args:
        bias: what a `biased` sensor adds, (N,), in the sensor's units.

    Attributes:
        fault: one of `NUMBER_FAULTS`; may change at any time.
        noise: standard deviation that is added to healthy values, in the sensor's units.
    """

    def __init__(self, rng: np.random.Generator, bias: np.ndarray) -> None:
        self.fault = "none"
        self.noise = 0.0
        self._rng = rng
        self._bias = bias
        self._last: np.ndarray | None = None

    def measure(self, row: np.ndarray) -> np.ndarray | None:
        """Return what the sensor brings of its values (N,); None for nothing."""
        if self.fault == "unplugged":
            return None
        if self.fault == "frozen" and self._last is not None:
            return self._last
        spread = np.abs(self._bias) if self.fault == "noisy" else self.noise
        seen: np.ndarray = row + self._rng.normal(0.0, 1.0, row.shape) * spread
        if self.fault == "zero":
            seen = np.zeros_like(row)
        elif self.fault == "biased":
            seen = seen + self._bias
        self._last = seen
        return seen

"""The faults of `benchmarks.trust`: what a sensor that fails sends.

Half of them are of kinds that the training of trust draws, at one degree; the others, marked `unseen`, are of kinds
that it never draws.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from smvae_core.data.faults import FAULTS as SINGLE
from smvae_core.data.faults import FaultKind, faulty, stuck
from smvae_core.modality import Modality

Array = NDArray[np.float32]
_HIDING = (
    "frozen", "late", "other", "zero", "half frozen", "torn", "halting", "rectified", "dead", "swapped", "drift",
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """A fault of one modality.

    Attributes:
        kind: of `smvae_core.data.faults`, or of `sent`.
        unseen: the training of trust draws no such fault.
    """

    modality: str
    kind: str
    amount: float = 0.0
    unseen: bool = False

    @property
    def name(self) -> str:
        """The fault in words."""
        return f"{self.modality} {self.kind}" + (f" {self.amount:g}" if self.amount else "")

    @property
    def hides(self) -> bool:
        """Whether what is sent may be what a healthy sensor would send, as of a frozen camera while nothing moves."""
        return self.kind in _HIDING


_KINDS: dict[str, list[tuple[str, float]]] = {
    "rgb": [
        ("frozen", 0), ("late", 0), ("other", 0), ("dim", 0.7), ("noise", 0.1), ("cover", 0.25), ("shift", 3),
        ("half frozen", 0), ("swapped", 0), ("mirrored", 0), ("pixels", 0.01), ("zoom", 1.1), ("turned", 5),
    ],
    "depth": [
        ("frozen", 0), ("late", 0), ("other", 0), ("scale", 1.03), ("scale", 1.1), ("noise", 0.05), ("cover", 0.25),
        ("shift", 3), ("bias", 0.02), ("half frozen", 0), ("steps", 0.05), ("zoom", 1.05), ("turned", 3),
    ],
    "force": [
        ("frozen", 0), ("late", 0), ("other", 0), ("zero", 0), ("bias", 2), ("scale", 2), ("scale", -1), ("noise", 0.3),
        ("dead", 2), ("swapped", 0), ("drift", 4),
    ],
    "action": [
        ("frozen", 0), ("late", 0), ("other", 0), ("zero", 0), ("scale", 2), ("scale", -1), ("noise", 1), ("dead", 2),
        ("swapped", 0), ("drift", 1),
    ],
}  # fmt: skip
_UNSEEN: dict[str, list[tuple[str, float]]] = {
    "rgb": [("gamma", 1.5), ("jpeg", 8), ("torn", 0)],
    "depth": [("gamma", 1.1), ("torn", 0)],
    "force": [("rectified", 0), ("halting", 0)],
    "action": [("rectified", 0), ("halting", 0)],
}
FAULTS = tuple(
    Fault(modality, kind, amount, unseen)
    for modality in _KINDS
    for unseen, kinds in ((False, _KINDS[modality]), (True, _UNSEEN[modality]))
    for kind, amount in kinds
)


def sent(
    fault: Fault, modality: Modality, true: Array, earlier: Array, other: Array, random: np.random.Generator
) -> Array:
    """Return what the sensor sends, (T, *shape), model units.

    Args:
        true: what a healthy one would send, after its last healthy sample: (1 + T, *shape).
        earlier: what a healthy one sent half a second before each of the T, (T, *shape).
        other: T samples of another log.
    """
    now, last = true[1:], true[:1]
    if fault.kind == "late":
        return earlier
    if fault.kind == "other":
        return other
    if fault.kind == "frozen":
        return np.repeat(stuck(modality, last), len(now), axis=0)
    if fault.kind in get_args(FaultKind):
        return faulty(modality, next(kind for kind in SINGLE if kind == fault.kind), now, fault.amount, random)
    if fault.kind == "drift":
        return np.concatenate(
            [faulty(modality, "bias", x[None], fault.amount * step / 100) for step, x in enumerate(now, start=1)]
        )
    changed = _ALTERATIONS[fault.kind](now.copy(), last, earlier, fault.amount)
    return np.ascontiguousarray(changed, np.float32)


Alteration = Callable[[Array, Array, Array, float], NDArray[np.floating]]
"""Of what a healthy sensor would send, its last healthy sample, what it sent half a second before, and the amount."""


def _half(now: Array, old: Array) -> Array:
    """The upper half of each picture from elsewhere."""
    now[..., : now.shape[-2] // 2, :] = old[..., : now.shape[-2] // 2, :]
    return now


def _warped(now: Array, zoom: float, degrees: float) -> NDArray[np.floating]:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    matrix = np.eye(now.ndim)
    matrix[-2:, -2:] = turn
    middle = (np.array(now.shape[-2:]) - 1) / 2
    offset = np.zeros(now.ndim)
    offset[-2:] = middle - turn @ middle
    warped: NDArray[np.floating] = affine_transform(now, matrix, offset, order=0, mode="nearest")
    return warped


def _compressed(now: Array, quality: float) -> Array:
    pictures = (255.0 * now).round().astype(np.uint8).transpose(0, 2, 3, 1)
    settings = [cv2.IMWRITE_JPEG_QUALITY, int(quality)]
    read = [cv2.imdecode(cv2.imencode(".jpg", x, settings)[1], cv2.IMREAD_COLOR) for x in pictures]
    compressed = np.stack([x for x in read if x is not None]).transpose(0, 3, 1, 2)
    return np.asarray(compressed / 255.0, np.float32)


def _pixels(now: Array, amount: float) -> Array:
    """The same pixels white in every picture."""
    stuck_ones = np.random.default_rng(0).random(now.shape[-2:]) < amount
    now[..., stuck_ones] = 1.0
    return now


def _dead(now: Array, last: Array, channel: float) -> Array:
    """One channel stays where it was."""
    now[:, int(channel)] = last[:, int(channel), ..., -1:] if now.ndim == 3 else last[:, int(channel)]
    return now


def _halting(now: Array, last: Array) -> Array:
    """Only every fourth sample is new."""
    halting: Array = np.concatenate([last, now])[1 + np.maximum(np.arange(len(now)) // 4 * 4 - 1, -1)]
    return halting


def _swapped(now: Array) -> Array:
    """The first channel and the third one."""
    now[:, [0, 2]] = now[:, [2, 0]]
    return now


_ALTERATIONS: dict[str, Alteration] = {
    "half frozen": lambda now, last, earlier, amount: _half(now, last),
    "torn": lambda now, last, earlier, amount: _half(now, earlier),
    "swapped": lambda now, last, earlier, amount: _swapped(now),
    "mirrored": lambda now, last, earlier, amount: now[..., ::-1],
    "pixels": lambda now, last, earlier, amount: _pixels(now, amount),
    "gamma": lambda now, last, earlier, amount: now**amount,
    "zoom": lambda now, last, earlier, amount: _warped(now, amount, 0.0),
    "turned": lambda now, last, earlier, amount: _warped(now, 1.0, amount),
    "jpeg": lambda now, last, earlier, amount: _compressed(now, amount),
    "steps": lambda now, last, earlier, amount: np.round(now / amount) * amount,
    "dead": lambda now, last, earlier, amount: _dead(now, last, amount),
    "rectified": lambda now, last, earlier, amount: np.abs(now),
    "halting": lambda now, last, earlier, amount: _halting(now, last),
}

"""Faults of a sensor, exact and in physical terms, on samples in model units: what a sensor that fails would have sent.

>>> faulty(depth, "scale", x, 1.03)         # every reading 3 % too far

All functions take samples (..., *shape), float32, and return new ones. Faults of several samples in a row (a frozen
sensor, the samples of another moment) are made by the caller, with `stuck` for what a frozen sensor repeats.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from smvae_core.modality import Modality
from smvae_core.preprocessing import Depth, Force, Vector

Array = NDArray[np.float32]
FaultKind = Literal["shift", "cover", "dim", "scale", "bias", "noise", "zero"]
"""The faults that change a sample by itself, in the order in which a sensor has them."""
FAULTS: tuple[FaultKind, ...] = get_args(FaultKind)

# The largest float32 below 1, up to which tanh can be inverted.
_ALMOST_ONE = float(np.nextafter(np.float32(1.0), np.float32(0.0)))


def faulty(
    modality: Modality, kind: FaultKind, x: Array, amount: float = 0.0, random: np.random.Generator | None = None
) -> Array:
    """Return samples with one fault.

    Args:
        kind: `shift`: the picture moves to the right by `amount` pixels of the model's image, and its edge is repeated.
            `cover`: the left part `amount` of the picture is black, or without reading. `dim`: brightness times
            `amount`. `scale`: physical values times `amount`. `bias`: `amount` is added to every physical value (bytes,
            metres, N and N·m, a vector's own units). `noise`: Gaussian, with standard deviation `amount` in model
            units. `zero`: physical zeros.
        random: of `noise`.
    """
    if kind == "shift":
        return _shifted(x, round(amount))
    if kind == "cover":
        return _covered(x, amount)
    if kind == "dim":
        return _rebuilt(modality, x, amount, 0.0)
    if kind == "scale":
        return _rebuilt(modality, x, amount, 0.0)
    if kind == "bias":
        return _rebuilt(modality, x, 1.0, amount)
    if kind == "noise":
        return _noisy(modality, x, amount, random or np.random.default_rng())
    return _rebuilt(modality, x, 0.0, 0.0)


def stuck(modality: Modality, x: Array) -> Array:
    """Return the sample that a sensor sends again and again once it froze after x: of a window, its newest row."""
    newest: Array = np.repeat(x[..., -1:], x.shape[-1], axis=-1) if modality.network == "sequence" else x.copy()
    return newest


def misfit(modality: Modality, kind: FaultKind) -> str:
    """Return why a modality cannot have a fault; empty if it can."""
    if kind in ("shift", "cover") and not modality.is_image:
        return f"expected an image, found {modality.name}, which is {'×'.join(map(str, modality.shape))} numbers"
    if kind == "dim" and (not modality.is_image or isinstance(modality.preprocessing, Depth)):
        return f"expected a camera, found {modality.name}, which has no brightness; --scale changes its values"
    return ""


def _rebuilt(modality: Modality, x: Array, factor: float, offset: float) -> Array:
    """Return the samples whose physical values are `factor` times those of x plus `offset`."""
    record, values = modality.preprocessing, x.astype(np.float64)
    if isinstance(record, Vector):
        middle = np.zeros(record.size) if record.offset is None else np.asarray(record.offset)
        scale = np.ones(record.size) if record.scale is None else np.asarray(record.scale)
        return (((values * scale + middle) * factor + offset - middle) / scale).astype(np.float32)
    if isinstance(record, Force):
        squashed = np.arctanh(values.clip(-_ALMOST_ONE, _ALMOST_ONE))
        forces: Array = np.tanh(factor * squashed + offset / np.asarray(record.scale)[:, None]).astype(np.float32)
        return forces
    if isinstance(record, Depth):
        changed = factor * values + offset / record.max_depth
        readable = (values > 0.0) & (changed > 0.0) & (changed < 1.0)
        return np.where(readable, changed, 0.0).astype(np.float32)
    return (factor * values + offset / 255.0).clip(0.0, 1.0).astype(np.float32)


def _shifted(x: Array, pixels: int) -> Array:
    columns = np.arange(x.shape[-1]) - pixels
    moved: Array = x[..., columns.clip(0, x.shape[-1] - 1)]
    return moved


def _covered(x: Array, part: float) -> Array:
    covered: Array = x.copy()
    covered[..., : round(part * x.shape[-1])] = 0.0
    return covered


def _noisy(modality: Modality, x: Array, deviation: float, random: np.random.Generator) -> Array:
    noisy = x + deviation * random.standard_normal(x.shape, np.float32)
    kind = modality.preprocessing.kind
    if kind == "depth":
        noisy = np.where(x > 0.0, noisy, 0.0)
    if kind != "vector":
        noisy = noisy.clip(-1.0 if kind == "force" else 0.0, 1.0)
    return np.asarray(noisy, np.float32)

"""Episodes of faults for the training of trust: a sensor that fails in one of many ways, for some steps of a log.

The faults are many and of all degrees, so that the network learns what is healthy, not a list of faults.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from smvae_core.data.faults import faulty, stuck
from smvae_core.modality import Modality

Array = NDArray[np.float32]
Alteration = Callable[[Modality, Array, np.random.Generator], Array]
"""From the samples of consecutive steps (T, *shape), model units, to those of a sensor that fails in one way."""


def altered(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    """Return the samples of consecutive steps, (T, *shape), as a sensor that fails in one way would have sent them."""
    kinds = _IMAGE if modality.is_image else _NUMBERS
    changed = kinds[int(random.integers(len(kinds)))](modality, x, random)
    return np.asarray(changed, np.float32)


def _degree(random: np.random.Generator, least: float, most: float) -> float:
    """Return a degree between two, each order of magnitude as likely."""
    return float(np.exp(random.uniform(np.log(least), np.log(most))))


def _sign(random: np.random.Generator) -> float:
    return float(random.choice([-1.0, 1.0]))


def _noise(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    return faulty(modality, "noise", x, _degree(random, 0.02 if modality.is_image else 0.1, 1.0), random)


def _scaled(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    change = _degree(random, 0.02 if modality.is_image else 0.1, 1.0)
    return faulty(modality, "scale", x, float(np.exp(_sign(random) * change)))


def _biased(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    if modality.is_image:
        unit = 255.0 if modality.preprocessing.kind != "depth" else modality.preprocessing.max_depth
        return faulty(modality, "bias", x, _sign(random) * unit * _degree(random, 0.02, 0.3))
    some = (random.random(x.shape[1]) < random.uniform(0.2, 1.0)).astype(np.float32)
    offset = some * random.standard_normal(x.shape[1]).astype(np.float32) * _degree(random, 0.1, 3.0)
    return x + offset.reshape(-1, *[1] * (x.ndim - 2))


def _drifting(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    changed = _biased(modality, x, random)
    ramp = (np.arange(1, len(x) + 1, dtype=np.float32) / len(x)).reshape(-1, *[1] * (x.ndim - 1))
    return x + ramp * (changed - x)


def _zero(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    return faulty(modality, "zero", x)


def _constant(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    """One channel, or all, at some value: a broken wire."""
    changed = x.copy()
    channels = random.random(x.shape[1]) < random.uniform(0.2, 1.0)
    channels[random.integers(x.shape[1])] = True
    value = random.standard_normal() * _degree(random, 0.05, 2.0)
    if modality.preprocessing.kind == "force":
        value = np.tanh(value)
    changed[:, channels] = value
    return changed


def _negative(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    return faulty(modality, "scale", x, -1.0)


def _exchanged(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    return x[:, np.roll(np.arange(x.shape[1]), int(random.integers(1, max(2, x.shape[1]))))]


def _stuck(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    return np.broadcast_to(stuck(modality, x[0]), x.shape).copy()


def _darkened(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    return faulty(modality, "scale", x, float(random.uniform(0.1, 0.95)))


def _covered(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    """A rectangle of one colour, or of noise."""
    changed = x.copy()
    height, width = x.shape[-2:]
    part = random.uniform(0.2, 1.0, 2)
    rows, columns = (max(2, int(p * size)) for p, size in zip(part, (height, width)))
    top, left = int(random.integers(height - rows + 1)), int(random.integers(width - columns + 1))
    colour = np.float32(0.0 if random.random() < 0.5 else random.random())
    changed[..., top : top + rows, left : left + columns] = colour
    return changed


def _moved(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    down, right = int(random.integers(-8, 9)), int(random.integers(-8, 9))
    moved = faulty(modality, "shift", x, right or 2)
    return faulty(modality, "shift", moved.swapaxes(-1, -2), down).swapaxes(-1, -2)


def _mirrored(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    return x[..., ::-1] if random.random() < 0.5 else x[..., ::-1, :]


def _blurred(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    width = int(random.choice([2, 4, 8]))
    *rest, height, columns = x.shape
    blocks = x.reshape(*rest, height // width, width, columns // width, width).mean(axis=(-3, -1), dtype=np.float32)
    blurred: Array = blocks.repeat(width, axis=-2).repeat(width, axis=-1)
    return blurred


def _specks(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    spoiled = random.random((len(x), 1, *x.shape[-2:])) < _degree(random, 0.02, 0.5)
    return np.where(spoiled, random.integers(0, 2, (len(x), 1, *x.shape[-2:])), x)


def _contrast(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    return (0.5 + random.uniform(0.1, 0.8) * (x - 0.5)).astype(np.float32)


_IMAGE: tuple[Alteration, ...] = (
    _noise, _scaled, _scaled, _biased, _darkened, _covered, _covered, _moved, _moved, _mirrored, _blurred, _specks,
    _contrast, _drifting,
)  # fmt: skip
_NUMBERS: tuple[Alteration, ...] = (
    _noise, _scaled, _scaled, _biased, _biased, _drifting, _zero, _zero, _zero, _constant, _negative, _exchanged,
    _stuck,
)  # fmt: skip

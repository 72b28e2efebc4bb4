"""Episodes of faults for the training of trust: a sensor that fails in one of many ways, for some steps of a log.

The faults are many and of all degrees, so that the network learns what is healthy, not a list of faults. A fault is
there at once, or grows from nothing, or comes and goes; now and then two come together.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from smvae_core.modality import Modality
from smvae_core.preprocessing import Depth, Force, Vector

Array = NDArray[np.float32]
Changed = NDArray[np.floating]
Alteration = Callable[[Array, np.random.Generator], Changed]
"""From the samples of consecutive steps (T, *shape) to those of a sensor that fails in one way."""

_GROWS, _COMES_AND_GOES, _TWO = 0.2, 0.1, 0.15
_ALMOST_ONE = 1.0 - 1e-6


def altered(modality: Modality, x: Array, random: np.random.Generator) -> Array:
    """Return the samples of consecutive steps, (T, *shape), as a sensor that fails in one way would have sent them.

    Images stay between 0 and 1, and a pixel without a reading gets none.
    """
    kinds = _IMAGE if modality.is_image else _NUMBERS
    healthy = x if modality.is_image else _physical(modality, x)
    changed = _one(kinds, healthy, random)
    if random.random() < _TWO:
        changed = _one(kinds, changed, random)
    how = random.random()
    if how < _GROWS:
        changed = healthy + _per_step(np.arange(1, len(x) + 1) / len(x), x) * (changed - healthy)
    elif how < _GROWS + _COMES_AND_GOES:
        changed = np.where(_per_step(random.random(len(x)) < 0.5, x) > 0.0, changed, healthy)
    if not modality.is_image:
        return _model_units(modality, changed)
    if isinstance(modality.preprocessing, Depth):
        changed = np.where(x > 0.0, changed, 0.0)
    return changed.clip(0.0, 1.0).astype(np.float32)


def _one(kinds: tuple[Alteration, ...], x: Array, random: np.random.Generator) -> Array:
    return kinds[int(random.integers(len(kinds)))](x, random).astype(np.float32)


def _physical(modality: Modality, x: Array) -> Array:
    """Return numbers as multiples of their physical unit, so that 0 is a physical zero."""
    record = modality.preprocessing
    if isinstance(record, Force):
        return np.asarray(np.arctanh(x.clip(-_ALMOST_ONE, _ALMOST_ONE)), np.float32)
    return x + _middle(record) if isinstance(record, Vector) else x


def _model_units(modality: Modality, x: Array) -> Array:
    record = modality.preprocessing
    if isinstance(record, Force):
        return np.tanh(x).astype(np.float32)
    return (x - _middle(record) if isinstance(record, Vector) else x).astype(np.float32)


def _middle(record: Vector) -> Array:
    if record.offset is None or record.scale is None:
        return np.zeros(record.size, np.float32)
    return np.asarray(np.asarray(record.offset) / np.asarray(record.scale), np.float32)


def _degree(random: np.random.Generator, least: float, most: float) -> float:
    """Return a degree between two, each order of magnitude as likely."""
    return float(np.exp(random.uniform(np.log(least), np.log(most))))


def _sign(random: np.random.Generator) -> float:
    return float(random.choice([-1.0, 1.0]))


def _per_step(values: NDArray[np.generic], x: Array) -> Array:
    return values.astype(np.float32).reshape(-1, *[1] * (x.ndim - 1))


def _per_channel(values: NDArray[np.generic], x: Array) -> Array:
    return values.astype(np.float32).reshape(-1, *[1] * (x.ndim - 2))


def _some_channels(x: Array, random: np.random.Generator) -> NDArray[np.bool_]:
    """Draw at least one channel."""
    chosen = random.random(x.shape[1]) < random.uniform(0.1, 1.0)
    chosen[random.integers(x.shape[1])] = True
    return chosen


def _somewhere(x: Array, random: np.random.Generator) -> tuple[slice, slice]:
    """Draw a rectangle of a picture."""
    height, width = x.shape[-2:]
    rows, columns = (max(2, int(part * size)) for part, size in zip(random.uniform(0.2, 1.0, 2), (height, width)))
    top, left = int(random.integers(height - rows + 1)), int(random.integers(width - columns + 1))
    return slice(top, top + rows), slice(left, left + columns)


# Pictures.


def _grainy(x: Array, random: np.random.Generator) -> Changed:
    """Noise, of each pixel or of each line, added or in proportion."""
    shape = (*x.shape[:-1], 1) if random.random() < 0.2 else x.shape
    noise = _degree(random, 0.01, 0.5) * random.standard_normal(shape, np.float32)
    return x + noise if random.random() < 0.7 else x * (1.0 + noise)


def _gained(x: Array, random: np.random.Generator) -> Changed:
    """All channels, or some, too bright or too dark; a depth too far or too near."""
    channels = _some_channels(x, random) if random.random() < 0.3 else np.ones(x.shape[1])
    changed: Changed = x * np.exp(_per_channel(channels, x) * _sign(random) * _degree(random, 0.02, 1.5))
    return changed


def _offset(x: Array, random: np.random.Generator) -> Changed:
    channels = _some_channels(x, random) if random.random() < 0.3 else np.ones(x.shape[1])
    return x + _per_channel(channels, x) * _sign(random) * _degree(random, 0.008, 0.4)


def _contrast(x: Array, random: np.random.Generator) -> Changed:
    middle = x.mean(axis=(-1, -2), keepdims=True)
    changed: Changed = middle + np.exp(_sign(random) * _degree(random, 0.05, 1.5)) * (x - middle)
    return changed


def _shaded(x: Array, random: np.random.Generator) -> Changed:
    """Brighter towards one side, as by a reflex."""
    slope = np.linspace(0.0, 1.0, x.shape[-1], dtype=np.float32)
    slope = slope[:, None] if random.random() < 0.5 else slope
    return x * (1.0 + _sign(random) * _degree(random, 0.05, 0.8) * slope)


def _covered(x: Array, random: np.random.Generator) -> Changed:
    """A rectangle of one colour, or a part in which nothing moves any more."""
    changed, (rows, columns) = x.copy(), _somewhere(x, random)
    colour = np.float32(0.0 if random.random() < 0.5 else random.random())
    frozen = x[:1, :, rows, columns]
    changed[:, :, rows, columns] = frozen if random.random() < 0.3 else colour
    return changed


def _moved(x: Array, random: np.random.Generator) -> Changed:
    """Moved by pixels or parts of one, turned, and nearer or farther; the edge is repeated."""
    height, width = x.shape[-2:]
    turns, zooms = random.random(2) < 0.4
    angle = random.normal(0.0, _degree(random, 1.0, 20.0)) if turns else 0.0
    zoom = np.exp(random.normal(0.0, _degree(random, 0.02, 0.3))) if zooms else 1.0
    middle = ((width - 1) / 2, (height - 1) / 2)
    matrix = np.asarray(cv2.getRotationMatrix2D(middle, angle, zoom), np.float64)
    if random.random() < 0.7 or not (turns or zooms):
        matrix[:, 2] += random.normal(0.0, _degree(random, 0.5, 8.0), 2)
    how = cv2.INTER_LINEAR if random.random() < 0.5 else cv2.INTER_NEAREST
    moved = [cv2.warpAffine(one, matrix, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE)
             for one in np.ascontiguousarray(x.transpose(0, 2, 3, 1))]  # fmt: skip
    return np.stack(moved).reshape(len(x), height, width, -1).transpose(0, 3, 1, 2).astype(np.float32)


def _mirrored(x: Array, random: np.random.Generator) -> Changed:
    ways: list[Array] = [x[..., ::-1], x[..., ::-1, :], x[..., ::-1, ::-1], x.swapaxes(-1, -2)]
    return ways[int(random.integers(4 if x.shape[-1] == x.shape[-2] else 3))]


def _exchanged(x: Array, random: np.random.Generator) -> Changed:
    """Channels in another order; a picture of one channel is mirrored."""
    if x.shape[1] == 1:
        return _mirrored(x, random)
    return x[:, _another_order(x, random)]


def _another_order(x: Array, random: np.random.Generator) -> NDArray[np.int64]:
    same = np.arange(x.shape[1])
    order: NDArray[np.int64] = same
    while len(same) > 1 and (order == same).all():
        order = random.permutation(same)
    return order


def _blurred(x: Array, random: np.random.Generator) -> Changed:
    """Out of focus, or of few pixels."""
    width = _degree(random, 0.5, 4.0)
    if random.random() < 0.5:
        blurred: Changed = gaussian_filter(x, (0, 0, width, width))
        return blurred
    block = int(random.choice([2, 4]))
    coarse: Array = x[..., ::block, ::block].repeat(block, axis=-2).repeat(block, axis=-1)
    return coarse[..., : x.shape[-2], : x.shape[-1]]


def _specks(x: Array, random: np.random.Generator) -> Changed:
    """Single pixels, or whole lines, that are black or white; of each picture, or always the same."""
    shape = (1 if random.random() < 0.4 else len(x), 1, *x.shape[-2:])
    if random.random() < 0.2:
        shape = (*shape[:-1], 1)
    spoiled = random.random(shape) < _degree(random, 0.005, 0.5)
    colour = random.integers(0, 2, shape) if random.random() < 0.5 else np.zeros(shape)
    return np.where(spoiled, colour, x)


def _stepped(x: Array, random: np.random.Generator) -> Changed:
    """Round the values to steps, as coarse conversion does."""
    step = _degree(random, 0.02, 0.3)
    return np.round(x / step) * step


# Numbers.


def _noise(x: Array, random: np.random.Generator) -> Changed:
    """Noise of each number, or of each sample."""
    shape = x.shape if random.random() < 0.7 else (*x.shape[:2], *[1] * (x.ndim - 2))
    channels = _per_channel(_some_channels(x, random), x)
    return x + channels * _degree(random, 0.01, 2.0) * random.standard_normal(shape, np.float32)


def _factor(x: Array, random: np.random.Generator) -> Changed:
    channels = _some_channels(x, random) if random.random() < 0.5 else np.ones(x.shape[1])
    factor = np.exp(_sign(random) * _degree(random, 0.1, 2.0)) * (_sign(random) if random.random() < 0.4 else 1.0)
    return np.where(_per_channel(channels, x) > 0.0, factor * x, x)


def _bias(x: Array, random: np.random.Generator) -> Changed:
    offsets = _some_channels(x, random) * random.standard_normal(x.shape[1]) * _degree(random, 0.03, 3.0)
    return x + _per_channel(offsets, x)


def _zero(x: Array, random: np.random.Generator) -> Changed:
    return np.zeros_like(x)


def _dead(x: Array, random: np.random.Generator) -> Changed:
    """Some channels at zero, at some value, or where they were."""
    value = (0.0, float(random.standard_normal()), x[:1, :, -1:] if x.ndim == 3 else x[:1])[int(random.integers(3))]
    return np.where(_per_channel(_some_channels(x, random), x) > 0.0, value, x)


def _permuted(x: Array, random: np.random.Generator) -> Changed:
    """Channels in another order."""
    return x[:, _another_order(x, random)]


def _turned(x: Array, random: np.random.Generator) -> Changed:
    """Two channels turned into each other, as by a sensor that is mounted at an angle."""
    changed = x.copy()
    if x.shape[1] > 1:
        i, j = random.choice(x.shape[1], 2, replace=False)
        cos, sin = np.cos(angle := random.uniform(0.3, 6.0)), np.sin(angle)
        changed[:, i], changed[:, j] = cos * x[:, i] - sin * x[:, j], sin * x[:, i] + cos * x[:, j]
    return changed


def _stuck(x: Array, random: np.random.Generator) -> Changed:
    """Everything where it was: the newest numbers of a window again and again, or the whole window."""
    last = x[:1, :, -1:] if x.ndim == 3 and random.random() < 0.7 else x[:1]
    return np.broadcast_to(last, x.shape)


def _coarse(x: Array, random: np.random.Generator) -> Changed:
    step = _degree(random, 0.02, 1.0)
    return np.round(x / step) * step


def _limited(x: Array, random: np.random.Generator) -> Changed:
    limit = _degree(random, 0.02, 1.0)
    return x.clip(-limit, limit)


def _spiky(x: Array, random: np.random.Generator) -> Changed:
    spikes = (random.random(x.shape) < _degree(random, 0.01, 0.3)) * _degree(random, 0.3, 5.0)
    return x + spikes * random.standard_normal(x.shape)


def _swinging(x: Array, random: np.random.Generator) -> Changed:
    """A hum on some channels."""
    time = np.arange(len(x), dtype=np.float32)
    time = time[:, None] + np.linspace(0.0, 1.0, x.shape[-1]) if x.ndim == 3 else time
    hum = _degree(random, 0.05, 2.0) * np.sin(_degree(random, 0.1, 30.0) * time + random.uniform(0.0, 6.3))
    changed: Changed = x + _per_channel(_some_channels(x, random), x) * hum.reshape(len(x), 1, *x.shape[2:])
    return changed


def _smoothed(x: Array, random: np.random.Generator) -> Changed:
    """Sluggish: each sample is drawn towards the one before."""
    keep, changed = random.uniform(0.5, 0.98), x.copy()
    for step in range(1, len(x)):
        changed[step] = keep * changed[step - 1] + (1.0 - keep) * x[step]
    return changed


_IMAGE: tuple[Alteration, ...] = (
    _grainy, _gained, _gained, _offset, _contrast, _shaded, _covered, _covered, _moved, _moved, _mirrored, _exchanged,
    _blurred, _specks, _stepped,
)  # fmt: skip
_NUMBERS: tuple[Alteration, ...] = (
    _noise, _noise, _factor, _factor, _bias, _bias, _zero, _dead, _permuted, _turned, _stuck, _coarse, _limited,
    _spiky, _swinging, _smoothed,
)  # fmt: skip

"""From a sensor's raw array to the model's units, and back.

Each kind of preprocessing is a small frozen record that travels inside the checkpoint: a model always runs with the
preprocessing it was trained with. `apply` takes the array of a log or a message, `invert` returns physical units, and
`valid_share` tells how much of a sample carries information.
"""

import functools
import math
from typing import Annotated, Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from smvae_core.errors import SMVAEError
from smvae_core.resizing import resized

Array = NDArray[Any]

# A pixel of a camera counts as valid if a channel differs from its mean over the image by more than this, in model
# units. The noise of a covered lens stays below.
_CONTRAST = 4.0 / 255.0
# A squashed force beyond this is saturated.
_SATURATED = 0.999


class PreprocessingError(SMVAEError):
    """The error of a raw array that does not have the shape, type or values that its modality needs."""


class _Record(BaseModel):
    """The base of all kinds of preprocessing.

    Attributes:
        min_valid: default of `Modality.min_valid`.
        valid: the entries that `valid_share` counts, in words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_valid: ClassVar[float]
    valid: ClassVar[str]


def _is_plane(raw: Array) -> bool:
    """Return whether an array is a non-empty (H, W) or (H, W, 1)."""
    return raw.size > 0 and (raw.ndim == 2 or (raw.ndim == 3 and raw.shape[2] == 1))


def _unit(image: Array) -> Array:
    """Scale bytes to [0, 1]."""
    # A channel after the other in memory, too, as all that follows reads it.
    scaled: Array = image.astype(np.float32, order="C")
    scaled /= 255.0
    return scaled


def _varied(x: Array) -> Array:
    """Return the part of the pixels of images (..., C, H, W) that differ from the mean colour of their image."""
    with np.errstate(invalid="ignore"):
        varied = np.abs(x - x.mean(axis=(-2, -1), keepdims=True)) > _CONTRAST
    # Several times as fast as any(axis=-3), which goes from pixel to pixel.
    return _counted(functools.reduce(np.logical_or, np.moveaxis(varied, -3, 0)), 2)


def _counted(valid: Array, dimensions: int) -> Array:
    """Return the part of the entries that are true over the last dimensions."""
    entries = math.prod(valid.shape[-dimensions:])
    if valid.ndim == dimensions:  # much faster than along axes
        return np.asarray(np.count_nonzero(valid) / entries)
    part: Array = np.count_nonzero(valid, axis=tuple(range(-dimensions, 0))) / entries
    return part


class RGB(_Record):
    """A colour image: uint8 (H, W, 3) of any size to float32 (3, size, size) in [0, 1]."""

    min_valid: ClassVar[float] = 0.01
    valid: ClassVar[str] = "pixels that differ from the mean colour"

    kind: Literal["rgb"] = "rgb"
    size: PositiveInt = 64

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the model."""
        return (3, self.size, self.size)

    def apply(self, raw: Array) -> Array:
        """Resize by area and scale to [0, 1].

        Raises:
            PreprocessingError: not a non-empty uint8 (H, W, 3) array.
        """
        return _unit(self.resized(raw))

    def resized(self, raw: Array) -> Array:
        """Resize by area alone, to uint8 (3, size, size): 255 times the result of `apply`.

        Raises:
            PreprocessingError: as `apply`.
        """
        if raw.dtype != np.uint8 or raw.ndim != 3 or raw.shape[2] != 3 or 0 in raw.shape:
            raise PreprocessingError(f"expected a uint8 image (H, W, 3), found {raw.dtype} {raw.shape}")
        if raw.shape[:2] != (self.size, self.size):
            raw = resized(raw, self.size)
        return np.transpose(raw, (2, 0, 1))

    def invert(self, x: Array) -> Array:
        """Convert float32 (3, size, size) to uint8 (size, size, 3)."""
        pixels: Array = np.rint(np.clip(x, 0.0, 1.0) * 255.0).astype(np.uint8)
        return np.transpose(pixels, (1, 2, 0))

    def valid_share(self, x: Array) -> Array:
        """Return the part of the pixels, 0 to 1, that differ from the mean colour: 0 for a constant image.

        Args:
            x: samples in model units, (..., 3, size, size).
        """
        return _varied(x)


class Grey(_Record):
    """A grey image or mask: uint8 (H, W) or (H, W, 1) of any size to float32 (1, size, size) in [0, 1]."""

    min_valid: ClassVar[float] = 0.01
    valid: ClassVar[str] = "pixels that differ from the mean brightness"

    kind: Literal["grey"] = "grey"
    size: PositiveInt = 64

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the model."""
        return (1, self.size, self.size)

    def apply(self, raw: Array) -> Array:
        """Resize by area and scale to [0, 1].

        Raises:
            PreprocessingError: not a non-empty uint8 (H, W) or (H, W, 1) array.
        """
        return _unit(self.resized(raw))

    def resized(self, raw: Array) -> Array:
        """Resize by area alone, to uint8 (1, size, size): 255 times the result of `apply`.

        Raises:
            PreprocessingError: as `apply`.
        """
        if raw.dtype != np.uint8 or not _is_plane(raw):
            raise PreprocessingError(f"expected a grey uint8 image (H, W), found {raw.dtype} {raw.shape}")
        plane: Array = raw.reshape(raw.shape[:2])
        if plane.shape != (self.size, self.size):
            plane = resized(plane, self.size)
        return plane[None]

    def invert(self, x: Array) -> Array:
        """Convert float32 (1, size, size) to uint8 (size, size, 3), three equal channels, for showing and sending."""
        grey = np.rint(np.clip(x[0], 0.0, 1.0) * 255.0).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)

    def valid_share(self, x: Array) -> Array:
        """Return the part of the pixels, 0 to 1, that differ from the mean brightness: 0 for a constant image.

        Args:
            x: samples in model units, (..., 1, size, size).
        """
        return _varied(x)


class Depth(_Record):
    """A depth image: metres (H, W) or (H, W, 1) to float32 (1, size, size) in [0, 1], where 0 is "no reading".

    Readings of at most 1e-7 m or at least `max_depth` are invalid, as in the Vision&Touch loaders; so are NaN and
    infinities. Invalid pixels have no weight when the image is made smaller. A prediction is hardly ever exactly 0, so
    one nearer than `min_depth` counts as "no reading".
    """

    min_valid: ClassVar[float] = 0.05
    valid: ClassVar[str] = "pixels with a reading"

    kind: Literal["depth"] = "depth"
    size: PositiveInt = 64
    max_depth: PositiveFloat = 2.0
    min_depth: NonNegativeFloat = 0.1

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the model."""
        return (1, self.size, self.size)

    def apply(self, raw: Array) -> Array:
        """Drop invalid readings, resize by area over the valid ones, divide by `max_depth`.

        Raises:
            PreprocessingError: not a non-empty floating-point (H, W) or (H, W, 1) array.
        """
        if raw.dtype.kind != "f" or not _is_plane(raw):
            raise PreprocessingError(f"expected a depth image in metres, float (H, W), found {raw.dtype} {raw.shape}")
        metres: Array = raw.reshape(raw.shape[:2]).astype(np.float32, copy=False)
        # False with NaN, too; several times as fast as to compare every pixel.
        complete = bool(metres.min() > 1e-7 and metres.max() < self.max_depth)
        if not complete:
            reading = (metres > 1e-7) & (metres < self.max_depth)
            # Zero where there is no reading; twice as fast as np.where.
            metres = cv2.copyTo(metres, reading.view(np.uint8))
        if metres.shape[:2] != (self.size, self.size):
            metres = resized(metres, self.size)
            if not complete:
                part = resized(reading.astype(np.float32), self.size)
                metres = np.where(part >= 0.5, metres / np.maximum(part, 1e-6), 0.0)
        return (metres / self.max_depth).astype(np.float32)[None]

    def invert(self, x: Array) -> Array:
        """Convert float32 (1, size, size) to metres (size, size), 0 for no reading."""
        metres = np.clip(x[0], 0.0, 1.0) * self.max_depth
        return np.where(metres < self.min_depth, 0.0, metres).astype(np.float32)

    def valid_share(self, x: Array) -> Array:
        """Return the part of the pixels, 0 to 1, that have a reading.

        Args:
            x: samples in model units, (..., 1, size, size).
        """
        return _counted(x > 0.0, 3)


class Force(_Record):
    """A force/torque window: (T, C) in N and N·m, oldest first, to float32 (C, window) in (-1, 1).

    The newest `window` rows are squashed by tanh(x / scale); a shorter window is filled up with its oldest row. The
    public Vision&Touch loaders use scale 1, which saturates above about 3 N; here each channel has its own scale.
    """

    min_valid: ClassVar[float] = 0.5
    valid: ClassVar[str] = "values that are not saturated"

    kind: Literal["force"] = "force"
    window: PositiveInt = 32
    scale: tuple[PositiveFloat, ...] = (10.0, 10.0, 10.0, 1.0, 1.0, 1.0)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the model."""
        return (len(self.scale), self.window)

    def apply(self, raw: Array) -> Array:
        """Take the newest `window` rows and squash them.

        Raises:
            PreprocessingError: no row, another number of channels, or values that are not finite.
        """
        if raw.ndim != 2 or raw.shape[1] != len(self.scale) or raw.shape[0] == 0:
            raise PreprocessingError(f"expected force samples (T, {len(self.scale)}), T >= 1, found shape {raw.shape}")
        newest = raw[-self.window :].astype(np.float32)
        if len(newest) < self.window:
            newest = np.pad(newest, ((self.window - len(newest), 0), (0, 0)), mode="edge")
        if not np.isfinite(newest).all():
            raise PreprocessingError("expected finite forces and torques, found NaN or infinity")
        squashed: Array = np.tanh(newest / np.asarray(self.scale, np.float32))
        return np.transpose(squashed)

    def invert(self, x: Array) -> Array:
        """Convert float32 (C, window) to (window, C) in N and N·m; the squash is inverted up to 0.999 of its range."""
        forces: Array = np.arctanh(np.clip(x.T, -0.999, 0.999)) * np.asarray(self.scale, np.float32)
        return forces.astype(np.float32)

    def valid_share(self, x: Array) -> Array:
        """Return the part of the values, 0 to 1, that are not saturated.

        Args:
            x: samples in model units, (..., C, window).
        """
        return _counted(np.abs(x) < _SATURATED, 2)


class Vector(_Record):
    """A plain vector: (size,) to float32 (size,) as (x - offset) / scale.

    Without offset and scale the trainer measures them: mean and standard deviation of the training part. An entry that
    is always the same there has scale 1. An entry more than `limit` scales from the offset counts as saturated.
    """

    min_valid: ClassVar[float] = 1.0
    valid: ClassVar[str] = "values within the limit"

    kind: Literal["vector"] = "vector"
    size: PositiveInt
    offset: tuple[float, ...] | None = None
    scale: tuple[PositiveFloat, ...] | None = None
    limit: PositiveFloat = 100.0

    @model_validator(mode="after")
    def _lengths_fit(self) -> "Vector":
        for key, value in (("offset", self.offset), ("scale", self.scale)):
            if value is not None and len(value) != self.size:
                raise ValueError(f"{key} has {len(value)} entries, size is {self.size}")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the model."""
        return (self.size,)

    def fitted(self, samples: Array) -> "Vector":
        """Return a copy whose open offset and scale are measured on `samples` (N, size)."""
        offset = samples.mean(axis=0) if self.offset is None else self.offset
        spread = samples.std(axis=0)
        # The spread that rounding gives a constant entry is none. Divided by it, the smallest change would be huge.
        varies = spread > 1e-12 * np.abs(samples).max(axis=0)
        scale = np.where(varies, spread, 1.0) if self.scale is None else self.scale
        return self.model_copy(update={"offset": tuple(map(float, offset)), "scale": tuple(map(float, scale))})

    def apply(self, raw: Array) -> Array:
        """Shift and scale.

        Raises:
            PreprocessingError: another length, or values that are not finite.
        """
        if raw.shape != self.shape:
            raise PreprocessingError(f"expected a vector of shape {self.shape}, found shape {raw.shape}")
        if not np.isfinite(raw).all():
            raise PreprocessingError("expected finite values, found NaN or infinity")
        return ((raw - self._offset) / self._scale).astype(np.float32)

    def invert(self, x: Array) -> Array:
        """Convert to the vector's own units."""
        return (x * self._scale + self._offset).astype(np.float32)

    def valid_share(self, x: Array) -> Array:
        """Return the part of the entries, 0 to 1, that are within the limit.

        Args:
            x: samples in model units, (..., size).
        """
        return _counted(np.abs(x) <= self.limit, 1)

    @property
    def _offset(self) -> Array:
        return np.zeros(self.size) if self.offset is None else np.asarray(self.offset)

    @property
    def _scale(self) -> Array:
        return np.ones(self.size) if self.scale is None else np.asarray(self.scale)


Preprocessing = Annotated[RGB | Grey | Depth | Force | Vector, Field(discriminator="kind")]

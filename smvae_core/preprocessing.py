"""From a sensor's raw array to the model's units, and back.

Each kind of preprocessing is a small frozen record that travels inside the checkpoint: a model always runs with the
preprocessing it was trained with. `apply` takes what a log or a message holds, `invert` returns physical units.
"""

from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from smvae_core.errors import SMVAEError


class PreprocessingError(SMVAEError):
    """A raw array does not have the shape, type or values that its modality needs."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RGB(_Record):
    """Colour image: uint8 (H, W, 3) of any size to float32 (3, size, size) in [0, 1]."""

    kind: Literal["rgb"] = "rgb"
    size: PositiveInt = 64

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the model."""
        return (3, self.size, self.size)

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """Resize by area and scale to [0, 1].

        Raises:
            PreprocessingError: not a non-empty uint8 (H, W, 3) array.
        """
        return self.resized(raw).astype(np.float32) / 255.0

    def resized(self, raw: np.ndarray) -> np.ndarray:
        """Resize by area alone: uint8 (3, size, size), 255 times what `apply` gives.

        Raises:
            PreprocessingError: as `apply`.
        """
        if raw.dtype != np.uint8 or raw.ndim != 3 or raw.shape[2] != 3 or 0 in raw.shape:
            raise PreprocessingError(f"expected a uint8 image (H, W, 3), found {raw.dtype} {raw.shape}")
        if raw.shape[:2] != (self.size, self.size):
            raw = cv2.resize(raw, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return raw.transpose(2, 0, 1)

    def invert(self, x: np.ndarray) -> np.ndarray:
        """Float32 (3, size, size) to uint8 (size, size, 3)."""
        return np.rint(np.clip(x, 0.0, 1.0) * 255.0).astype(np.uint8).transpose(1, 2, 0)


class Grey(_Record):
    """Grey image or mask: uint8 (H, W) or (H, W, 1) of any size to float32 (1, size, size) in [0, 1]."""

    kind: Literal["grey"] = "grey"
    size: PositiveInt = 64

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the model."""
        return (1, self.size, self.size)

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """Resize by area and scale to [0, 1].

        Raises:
            PreprocessingError: not a non-empty uint8 (H, W) or (H, W, 1) array.
        """
        return self.resized(raw).astype(np.float32) / 255.0

    def resized(self, raw: np.ndarray) -> np.ndarray:
        """Resize by area alone: uint8 (1, size, size), 255 times what `apply` gives.

        Raises:
            PreprocessingError: as `apply`.
        """
        if raw.dtype != np.uint8 or raw.ndim not in (2, 3) or raw.shape[2:] not in ((), (1,)) or 0 in raw.shape:
            raise PreprocessingError(f"expected a grey uint8 image (H, W), found {raw.dtype} {raw.shape}")
        raw = raw.reshape(raw.shape[:2])
        if raw.shape != (self.size, self.size):
            raw = cv2.resize(raw, (self.size, self.size), interpolation=cv2.INTER_AREA)
        return raw[None]

    def invert(self, x: np.ndarray) -> np.ndarray:
        """Float32 (1, size, size) to uint8 (size, size, 3) of three equal channels, as pictures are shown and sent."""
        grey = np.rint(np.clip(x[0], 0.0, 1.0) * 255.0).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)


class Depth(_Record):
    """Depth image: metres (H, W) or (H, W, 1) to float32 (1, size, size) in [0, 1], where 0 is "no reading".

    Readings of at most 1e-7 m or at least `max_depth` are invalid, as in the Vision&Touch loaders; so are NaN and
    infinities. Invalid pixels have no weight when the image is made smaller. A prediction hardly ever is exactly 0, so
    one nearer than `min_depth` is taken for "no reading".
    """

    kind: Literal["depth"] = "depth"
    size: PositiveInt = 64
    max_depth: PositiveFloat = 2.0
    min_depth: NonNegativeFloat = 0.1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the model."""
        return (1, self.size, self.size)

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """Drop invalid readings, resize by area over the valid ones, divide by `max_depth`.

        Raises:
            PreprocessingError: not a non-empty floating-point (H, W) or (H, W, 1) array.
        """
        if raw.dtype.kind != "f" or raw.ndim not in (2, 3) or raw.shape[2:] not in ((), (1,)) or 0 in raw.shape:
            raise PreprocessingError(f"expected a depth image in metres, float (H, W), found {raw.dtype} {raw.shape}")
        metres = raw.reshape(raw.shape[:2]).astype(np.float32, copy=False)
        reading = (metres > 1e-7) & (metres < self.max_depth)
        # Zero where there is no reading; twice as fast as np.where.
        valid, metres = reading.astype(np.float32), cv2.copyTo(metres, reading.view(np.uint8))
        if metres.shape != (self.size, self.size):
            target = (self.size, self.size)
            metres = cv2.resize(metres, target, interpolation=cv2.INTER_AREA)
            share = cv2.resize(valid, target, interpolation=cv2.INTER_AREA)
            metres = np.where(share >= 0.5, metres / np.maximum(share, 1e-6), 0.0)
        return (metres / self.max_depth).astype(np.float32)[None]

    def invert(self, x: np.ndarray) -> np.ndarray:
        """Float32 (1, size, size) to metres (size, size), 0 for no reading."""
        metres = np.clip(x[0], 0.0, 1.0) * self.max_depth
        return np.where(metres < self.min_depth, 0.0, metres).astype(np.float32)


class Force(_Record):
    """Force/torque window: (T, C) in N and N·m, oldest first, to float32 (C, window) in (-1, 1).

    The newest `window` rows are squashed by tanh(x / scale); a shorter window is filled up with its oldest row. The
    public Vision&Touch loaders use scale 1, which saturates above about 3 N; here each channel has its own scale.
    """

    kind: Literal["force"] = "force"
    window: PositiveInt = 32
    scale: tuple[PositiveFloat, ...] = (10.0, 10.0, 10.0, 1.0, 1.0, 1.0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the model."""
        return (len(self.scale), self.window)

    def apply(self, raw: np.ndarray) -> np.ndarray:
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
        return np.tanh(newest / np.asarray(self.scale, np.float32)).T

    def invert(self, x: np.ndarray) -> np.ndarray:
        """Float32 (C, window) to (window, C) in N and N·m; the squash is inverted up to 0.999 of its range."""
        return (np.arctanh(np.clip(x.T, -0.999, 0.999)) * np.asarray(self.scale, np.float32)).astype(np.float32)


class Vector(_Record):
    """A plain vector: (size,) to float32 (size,) as (x - offset) / scale.

    Without offset and scale the trainer measures them: mean and standard deviation of the training part. An entry that
    is always the same there has scale 1.
    """

    kind: Literal["vector"] = "vector"
    size: PositiveInt
    offset: tuple[float, ...] | None = None
    scale: tuple[PositiveFloat, ...] | None = None

    @model_validator(mode="after")
    def _lengths_fit(self) -> "Vector":
        for key, value in (("offset", self.offset), ("scale", self.scale)):
            if value is not None and len(value) != self.size:
                raise ValueError(f"{key} has {len(value)} entries, size is {self.size}")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the model."""
        return (self.size,)

    def fitted(self, samples: np.ndarray) -> "Vector":
        """The same with what was left open measured on `samples` (N, size)."""
        offset = samples.mean(axis=0) if self.offset is None else self.offset
        spread = samples.std(axis=0)
        # Divided by next to nothing, the smallest change of a constant entry would drown all others. What rounding gives
        # such an entry is no spread.
        varies = spread > 1e-12 * np.abs(samples).max(axis=0)
        scale = np.where(varies, spread, 1.0) if self.scale is None else self.scale
        return Vector(size=self.size, offset=tuple(map(float, offset)), scale=tuple(map(float, scale)))

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """Shift and scale.

        Raises:
            PreprocessingError: another length, or values that are not finite.
        """
        if raw.shape != self.shape:
            raise PreprocessingError(f"expected a vector of shape {self.shape}, found shape {raw.shape}")
        if not np.isfinite(raw).all():
            raise PreprocessingError("expected finite values, found NaN or infinity")
        return ((raw - self._offset) / self._scale).astype(np.float32)

    def invert(self, x: np.ndarray) -> np.ndarray:
        """Back to the vector's own units."""
        return (x * self._scale + self._offset).astype(np.float32)

    @property
    def _offset(self) -> np.ndarray:
        return np.zeros(self.size) if self.offset is None else np.asarray(self.offset)

    @property
    def _scale(self) -> np.ndarray:
        return np.ones(self.size) if self.scale is None else np.asarray(self.scale)


Preprocessing = Annotated[RGB | Grey | Depth | Force | Vector, Field(discriminator="kind")]

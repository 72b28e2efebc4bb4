"""A modality, described by data, never by code.

>>> Modality(name="rgb", source="image", preprocessing=RGB(), network="image", likelihood="bernoulli").shape
(3, 64, 64)
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, field_validator, model_validator

from smvae_core.errors import SMVAEError
from smvae_core.image_variants import LOOKS
from smvae_core.preprocessing import RGB, Array, Depth, Force, Preprocessing, PreprocessingError, Vector

NetworkKind = Literal["image", "small_image", "flat_image", "sequence", "vector", "label", "attributes"]
LikelihoodKind = Literal["bernoulli", "normal", "laplace", "categorical"]

_RANK: dict[str, int] = {
    "image": 3,
    "small_image": 3,
    "flat_image": 3,
    "sequence": 2,
    "vector": 1,
    "label": 1,
    "attributes": 1,
}


class ModalityError(SMVAEError):
    """The error of a sample that does not fit its modality."""


class Modality(BaseModel):
    """One kind of observation: a camera, a force sensor, the commands.

    Attributes:
        name: the name in batches, topics and tables.
        source: the key of the data; `image.grey`, `image.edges`, `image.occluded` and `image.watermarked` are computed
            from the image when data are read.
        preprocessing: from the raw array to the model's units, and back.
        network: kind of embedding network and decoder: `image`, `sequence` and `vector` of Tables 8 and 9 of the
            SMVAE paper (`image` also of Tables 5 to 7), `flat_image` and `label` of Table 3, `small_image` of Table 4,
            `attributes` of Table 5.
        likelihood: log p(x_m | z).
        scale: standard deviation (normal) or diversity (Laplace) of that likelihood, in model units.
        weight: the reweighting coefficient λ of Eq. 2.
        pairs: which entry of the data belongs to an observation: `same` is that of its own step; `following` is that of
            the next step, for commands that are logged with the observation that they led to. None follows the custom
            of the data's format: `following` for `action` in logs, `same` otherwise.
        min_valid: least part of a sample, 0 to 1, that must carry information (`valid_share`). A sample with less
            counts as absent. None takes the default of the preprocessing: 0.01 of the pixels of a camera differ from
            the mean colour, 0.05 of a depth image are readings, half of a force window is not saturated, and every
            entry of a vector is within its limit. 0 takes every sample.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    source: str
    preprocessing: Preprocessing
    network: NetworkKind
    likelihood: LikelihoodKind
    scale: PositiveFloat = 1.0
    weight: PositiveFloat = 1.0
    pairs: Literal["same", "following"] | None = None
    min_valid: float | None = Field(default=None, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _network_fits(self) -> "Modality":
        if len(self.shape) != _RANK[self.network]:
            raise ValueError(
                f"modality {self.name}: network '{self.network}' takes {_RANK[self.network]} dimensions, "
                f"preprocessing '{self.preprocessing.kind}' gives shape {self.shape}"
            )
        return self

    @field_validator("source")
    @classmethod
    def _look_is_known(cls, source: str) -> str:
        # Other keys may have dots of their own: `observation.images.front`.
        key, _, look = source.partition(".")
        if key == "image" and look and look not in LOOKS:
            raise ValueError(f"expected a plain key, or one with a look among {sorted(LOOKS)}, found '{source}'")
        return source

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample in the model."""
        return self.preprocessing.shape

    @property
    def follows(self) -> bool:
        """Whether a sample takes the entry of the next step."""
        return self.source == "action" if self.pairs is None else self.pairs == "following"

    @property
    def is_image(self) -> bool:
        """Whether one sample is a picture, (C, H, W)."""
        return len(self.shape) == 3

    def to_model(self, raw: Array) -> Array:
        """Convert a raw array to float32 of `shape`, in model units.

        Raises:
            ModalityError: the raw array does not fit; the sentence names the modality, the expected and the found.
        """
        try:
            return self.preprocessing.apply(raw)
        except PreprocessingError as error:
            raise ModalityError(f"{self.name}: {error}") from None

    def to_physical(self, x: Array) -> Array:
        """Convert model units to physical ones: uint8 RGB, metres, newtons, commands."""
        return self.preprocessing.invert(x)

    def valid_share(self, x: Array) -> Array:
        """Return the part, 0 to 1, of each sample that carries information; 0 where any number is not finite.

        Args:
            x: samples in model units, (..., *shape).

        Returns:
            (...).
        """
        if x.ndim == len(self.shape) and np.isfinite(x.sum()):  # the usual case, much faster than entry by entry
            return self.preprocessing.valid_share(x)
        finite = np.isfinite(x).all(axis=tuple(range(-len(self.shape), 0)))
        return np.where(finite, self.preprocessing.valid_share(x), 0.0)

    def is_valid(self, x: Array) -> NDArray[np.bool_]:
        """Return whether enough of each sample carries information; otherwise it counts as absent.

        Args and shape of the result: as `valid_share`.
        """
        return self.is_enough(self.valid_share(x))

    def is_enough(self, share: Array) -> NDArray[np.bool_]:
        """Return whether these results of `valid_share` suffice."""
        return np.asarray(share >= self.least_valid)

    def check_valid(self, x: Array) -> None:
        """Raise the error of one sample in model units, (*shape), that carries too little information.

        Raises:
            ModalityError: the sentence names the modality, and how much was expected and found.
        """
        share = float(self.valid_share(x))
        if not share >= self.least_valid:
            raise ModalityError(
                f"{self.name}: expected at least {100 * self.least_valid:g} % {self.preprocessing.valid}, found "
                f"{100 * share:.3g} %; it counts as absent"
            )

    @property
    def least_valid(self) -> float:
        """The part of a sample that must carry information, 0 to 1: `min_valid`, or the preprocessing's default."""
        return self.preprocessing.min_valid if self.min_valid is None else self.min_valid


def vision_touch_modalities() -> tuple[Modality, ...]:
    """Return the four modalities of §4.4: RGB 3×64×64, depth 1×64×64, force 6×32, action 4."""
    return (
        Modality(name="rgb", source="image", preprocessing=RGB(), network="image", likelihood="bernoulli"),
        Modality(name="depth", source="depth_data", preprocessing=Depth(), network="image", likelihood="bernoulli"),
        Modality(
            name="force",
            source="ee_forces_continuous",
            preprocessing=Force(),
            network="sequence",
            likelihood="normal",
            scale=0.1,
        ),
        Modality(
            name="action",
            source="action",
            preprocessing=Vector(size=4),
            network="vector",
            likelihood="normal",
            scale=0.1,
        ),
    )

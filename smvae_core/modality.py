"""What a modality is: described by data, never by code.

>>> Modality(name="rgb", source="image", preprocessing=RGB(), network="image", likelihood="bernoulli").shape
(3, 64, 64)
"""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, field_validator, model_validator

from smvae_core.errors import SMVAEError
from smvae_core.image_variants import LOOKS
from smvae_core.preprocessing import RGB, Depth, Force, Preprocessing, PreprocessingError, Vector

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
    """A sample does not fit the modality that it was given for."""


class Modality(BaseModel):
    """One sense of the robot.

    Attributes:
        name: what batches, topics and tables call it.
        source: the key of the data that holds it; `image.grey`, `image.edges`, `image.occluded` and
            `image.watermarked` are computed from the image when data are read.
        preprocessing: from the raw array to the model's units, and back.
        network: kind of embedding network and decoder: `image`, `sequence` and `vector` of Tables 8 and 9 of the
            SMVAE paper (`image` is that of Tables 5 to 7, too), `flat_image` and `label` of Table 3, `small_image` of
            Table 4, `attributes` of Table 5.
        likelihood: log p(x_m | z).
        scale: standard deviation (normal) or diversity (Laplace) of that likelihood, in model units.
        weight: the reweighting coefficient λ of Eq. 2.
        pairs: which entry of the data belongs to an observation: `same` is that of its own step; `following` is that of
            the next step, for commands that are logged with the observation that they led to. None follows the custom
            of the data's format: `following` for `action` in logs, `same` otherwise.
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
        """Shape of one sample in the model."""
        return self.preprocessing.shape

    @property
    def follows(self) -> bool:
        """Whether a sample takes the entry of the next step."""
        return self.source == "action" if self.pairs is None else self.pairs == "following"

    @property
    def is_image(self) -> bool:
        """Whether one sample is a picture, (C, H, W)."""
        return len(self.shape) == 3

    def to_model(self, raw: np.ndarray) -> np.ndarray:
        """Raw array to float32 of `shape`, in model units.

        Raises:
            ModalityError: the raw array does not fit; the sentence names the modality, the expected and the found.
        """
        try:
            return self.preprocessing.apply(raw)
        except PreprocessingError as error:
            raise ModalityError(f"{self.name}: {error}") from None

    def to_physical(self, x: np.ndarray) -> np.ndarray:
        """Model units to physical ones: uint8 RGB, metres, newtons, commands."""
        return self.preprocessing.invert(x)


def vision_touch_modalities() -> tuple[Modality, ...]:
    """The four senses of §4.4: RGB 3×64×64, depth 1×64×64, force 6×32, action 4."""
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

"""Widths of networks, and the error of a shape that fits none."""

from pydantic import BaseModel, ConfigDict, PositiveInt

from smvae_core.errors import SMVAEError


class NetworkError(SMVAEError):
    """A modality's shape does not fit the network that it names."""


class NetworkSizes(BaseModel):
    """The widths of all networks; the shapes of inputs and outputs do not depend on them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding: PositiveInt
    hidden: PositiveInt
    image_channels: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]
    sequence_channels: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]
    heads: PositiveInt

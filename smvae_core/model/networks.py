"""Embedding networks E_i and decoders D_i by kind; those of Tables 8 and 9 of the SMVAE paper are defined here.

The tables give no kernel sizes; those used are the public MVAE code's, the only ones that give the tables' 256×5×5.
Where the tables name no activation between two hidden layers (the first convolution, the force column), Swish is used
too, as in the MVAE code and in the force encoder of Lee et al. 2020: without it those layers would be one linear map.
Table 9's Swish after the last layer is left out, since it would bound every logit from below at -0.28. Tables 5 to 7
give images the same networks; grey, edge and mask images (Table 7) have one channel instead of three.
"""

from typing import Literal

from torch import nn

from smvae_core.modality import Modality
from smvae_core.model.batch_norm import BatchNorm
from smvae_core.model.bimodal_networks import (
    AttributesDecoder,
    AttributesEmbedding,
    FlatImageDecoder,
    FlatImageEmbedding,
    LabelDecoder,
    LabelEmbedding,
    SmallImageDecoder,
    SmallImageEmbedding,
)
from smvae_core.model.sizes import NetworkError, NetworkSizes

SIZES: dict[Literal["paper", "compact", "tiny"], NetworkSizes] = {
    "paper": NetworkSizes(
        embedding=512, hidden=512, image_channels=(32, 64, 128, 256), sequence_channels=(16, 32, 64, 128), heads=8
    ),
    "compact": NetworkSizes(
        embedding=256, hidden=256, image_channels=(16, 32, 64, 64), sequence_channels=(16, 32, 64, 64), heads=8
    ),
    "tiny": NetworkSizes(embedding=32, hidden=32, image_channels=(4, 8, 8, 8), sequence_channels=(4, 8, 8, 8), heads=4),
}


def embedding_network(modality: Modality, sizes: NetworkSizes) -> nn.Module:
    """Build E_i of Eq. 7: (B, *modality.shape) to (B, sizes.embedding).

    Raises:
        NetworkError: the modality's shape does not fit the network kind.
    """
    return _EMBEDDING[modality.network](modality, sizes)


def decoder(modality: Modality, latent: int, sizes: NetworkSizes) -> nn.Module:
    """Build D_i: (B, latent) to (B, *modality.shape), the parameters of the modality's likelihood.

    Raises:
        NetworkError: the modality's shape does not fit the network kind.
    """
    return _DECODER[modality.network](modality, latent, sizes)


class ImageEmbedding(nn.Sequential):
    """Table 8, Encoder-Image and Encoder-Depth: (C, S, S) with S divisible by 8 and at least 32."""

    def __init__(self, modality: Modality, sizes: NetworkSizes) -> None:
        channels, side = modality.shape[0], _last_side(modality)
        a, b, c, d = sizes.image_channels
        super().__init__(
            nn.Conv2d(channels, a, 4, 2, 1),
            nn.SiLU(),
            nn.Conv2d(a, b, 4, 2, 1, bias=False),
            BatchNorm(b),
            nn.SiLU(),
            nn.Conv2d(b, c, 4, 2, 1, bias=False),
            BatchNorm(c),
            nn.SiLU(),
            nn.Conv2d(c, d, 4, 1, 0, bias=False),
            BatchNorm(d),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(d * side * side, sizes.embedding),
            nn.SiLU(),
        )


class ImageDecoder(nn.Sequential):
    """Table 9, Decoder-Image and Decoder-Depth."""

    def __init__(self, modality: Modality, latent: int, sizes: NetworkSizes) -> None:
        channels, side = modality.shape[0], _last_side(modality)
        a, b, c, d = sizes.image_channels
        super().__init__(
            nn.Linear(latent, d * side * side),
            nn.SiLU(),
            nn.Unflatten(1, (d, side, side)),
            nn.ConvTranspose2d(d, c, 4, 1, 0),
            nn.SiLU(),
            nn.ConvTranspose2d(c, b, 4, 2, 1),
            nn.SiLU(),
            nn.ConvTranspose2d(b, a, 4, 2, 1),
            nn.SiLU(),
            nn.ConvTranspose2d(a, channels, 4, 2, 1),
        )


class SequenceEmbedding(nn.Sequential):
    """Table 8, Encoder-Force: four causal convolutions, kernel 2, stride 2, no padding, so that all of it is used."""

    def __init__(self, modality: Modality, sizes: NetworkSizes) -> None:
        channels, length = modality.shape[0], _last_length(modality)
        a, b, c, d = sizes.sequence_channels
        super().__init__(
            nn.Conv1d(channels, a, 2, 2),
            nn.SiLU(),
            nn.Conv1d(a, b, 2, 2),
            nn.SiLU(),
            nn.Conv1d(b, c, 2, 2),
            nn.SiLU(),
            nn.Conv1d(c, d, 2, 2),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(d * length, sizes.embedding),
        )


class SequenceDecoder(nn.Sequential):
    """Table 9, Decoder-Force, the mirror of `SequenceEmbedding`."""

    def __init__(self, modality: Modality, latent: int, sizes: NetworkSizes) -> None:
        channels, length = modality.shape[0], _last_length(modality)
        a, b, c, d = sizes.sequence_channels
        super().__init__(
            nn.Linear(latent, d * length),
            nn.SiLU(),
            nn.Unflatten(1, (d, length)),
            nn.ConvTranspose1d(d, c, 2, 2),
            nn.SiLU(),
            nn.ConvTranspose1d(c, b, 2, 2),
            nn.SiLU(),
            nn.ConvTranspose1d(b, a, 2, 2),
            nn.SiLU(),
            nn.ConvTranspose1d(a, channels, 2, 2),
        )


class VectorEmbedding(nn.Sequential):
    """Table 8, Encoder-Action."""

    def __init__(self, modality: Modality, sizes: NetworkSizes) -> None:
        super().__init__(
            nn.Linear(modality.shape[0], sizes.hidden), nn.SiLU(), nn.Linear(sizes.hidden, sizes.embedding)
        )


class VectorDecoder(nn.Sequential):
    """Table 9, Decoder-Action."""

    def __init__(self, modality: Modality, latent: int, sizes: NetworkSizes) -> None:
        super().__init__(nn.Linear(latent, sizes.hidden), nn.SiLU(), nn.Linear(sizes.hidden, modality.shape[0]))


def _last_side(modality: Modality) -> int:
    _, height, width = modality.shape
    if height != width or height % 8 or height < 32:
        raise NetworkError(
            f"{modality.name}: network 'image' takes square images whose side is a multiple of 8 and at least 32, "
            f"found shape {modality.shape}"
        )
    return height // 8 - 3


def _last_length(modality: Modality) -> int:
    length = modality.shape[1]
    if length % 16:
        raise NetworkError(
            f"{modality.name}: network 'sequence' takes windows of a multiple of 16 samples, found {length}"
        )
    return length // 16


_EMBEDDING = {
    "image": ImageEmbedding,
    "small_image": SmallImageEmbedding,
    "flat_image": FlatImageEmbedding,
    "sequence": SequenceEmbedding,
    "vector": VectorEmbedding,
    "label": LabelEmbedding,
    "attributes": AttributesEmbedding,
}
_DECODER = {
    "image": ImageDecoder,
    "small_image": SmallImageDecoder,
    "flat_image": FlatImageDecoder,
    "sequence": SequenceDecoder,
    "vector": VectorDecoder,
    "label": LabelDecoder,
    "attributes": AttributesDecoder,
}

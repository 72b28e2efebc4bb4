"""Networks of the bimodal data sets: MNIST (Table 3), Fashion-MNIST (Table 4) and CelebA's attributes (Table 5).

Table 4's "strides 4, padding 2" cannot give its own 128×7×7; kernel, stride and padding (4, 2, 1) of the public MVAE
code do. Table 4 names no activation between its two deconvolutions but Swish, and none after the last. The last
Swish and batch normalisation of Table 5's attribute decoder are left out: they would bound every logit from below at
-0.28. CelebA's images have the networks of Table 8.
"""

from torch import nn

from smvae_core.modality import Modality
from smvae_core.model.batch_norm import VectorBatchNorm
from smvae_core.model.sizes import NetworkError, NetworkSizes


class FlatImageEmbedding(nn.Sequential):
    """Table 3, Encoder-Image: (C, H, W) of any size, one layer."""

    def __init__(self, modality: Modality, sizes: NetworkSizes) -> None:
        channels, height, width = modality.shape
        super().__init__(nn.Flatten(), nn.Linear(channels * height * width, sizes.embedding), nn.SiLU())


class FlatImageDecoder(nn.Sequential):
    """Table 3, Decoder-Image."""

    def __init__(self, modality: Modality, latent: int, sizes: NetworkSizes) -> None:
        channels, height, width = modality.shape
        super().__init__(
            nn.Linear(latent, sizes.hidden),
            nn.SiLU(),
            nn.Linear(sizes.hidden, channels * height * width),
            nn.Unflatten(1, modality.shape),
        )


class SmallImageEmbedding(nn.Sequential):
    """Table 4, Encoder-Image: (C, H, W) with H and W divisible by 4."""

    def __init__(self, modality: Modality, sizes: NetworkSizes) -> None:
        height, width = _quarters(modality)
        _, a, b, _ = sizes.image_channels
        super().__init__(
            nn.Conv2d(modality.shape[0], a, 4, 2, 1),
            nn.SiLU(),
            nn.Conv2d(a, b, 4, 2, 1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(b * height * width, sizes.embedding),
            nn.SiLU(),
        )


class SmallImageDecoder(nn.Sequential):
    """Table 4, Decoder-Image."""

    def __init__(self, modality: Modality, latent: int, sizes: NetworkSizes) -> None:
        height, width = _quarters(modality)
        _, a, b, _ = sizes.image_channels
        super().__init__(
            nn.Linear(latent, sizes.hidden),
            nn.SiLU(),
            nn.Linear(sizes.hidden, b * height * width),
            nn.SiLU(),
            nn.Unflatten(1, (b, height, width)),
            nn.ConvTranspose2d(b, a, 4, 2, 1),
            nn.SiLU(),
            nn.ConvTranspose2d(a, modality.shape[0], 4, 2, 1),
        )


class LabelEmbedding(nn.Sequential):
    """Tables 3 and 4, Encoder-Label, of a one-hot vector."""

    def __init__(self, modality: Modality, sizes: NetworkSizes) -> None:
        super().__init__(nn.Linear(modality.shape[0], sizes.embedding), nn.SiLU())


class LabelDecoder(nn.Sequential):
    """Tables 3 and 4, Decoder-Label."""

    def __init__(self, modality: Modality, latent: int, sizes: NetworkSizes) -> None:
        super().__init__(nn.Linear(latent, sizes.hidden), nn.SiLU(), nn.Linear(sizes.hidden, modality.shape[0]))


class AttributesEmbedding(nn.Sequential):
    """Table 5, Encoder-Attributes, of a vector of zeros and ones."""

    def __init__(self, modality: Modality, sizes: NetworkSizes) -> None:
        super().__init__(
            *_normalised(modality.shape[0], sizes.hidden),
            *_normalised(sizes.hidden, sizes.hidden),
            nn.Linear(sizes.hidden, sizes.embedding, bias=False),
            VectorBatchNorm(sizes.embedding),
        )


class AttributesDecoder(nn.Sequential):
    """Table 5, Decoder-Attributes."""

    def __init__(self, modality: Modality, latent: int, sizes: NetworkSizes) -> None:
        super().__init__(
            *_normalised(latent, sizes.hidden),
            *_normalised(sizes.hidden, sizes.hidden),
            *_normalised(sizes.hidden, sizes.hidden),
            nn.Linear(sizes.hidden, modality.shape[0]),
        )


def _normalised(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, outputs, bias=False), VectorBatchNorm(outputs), nn.SiLU()


def _quarters(modality: Modality) -> tuple[int, int]:
    _, height, width = modality.shape
    if height % 4 or width % 4:
        raise NetworkError(
            f"{modality.name}: network 'small_image' takes images whose sides are multiples of 4, "
            f"found shape {modality.shape}"
        )
    return height // 4, width // 4

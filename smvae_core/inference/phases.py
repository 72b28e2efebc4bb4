"""Image decoders whose transposed convolutions are convolutions: the same numbers, with fewer passes over memory.

A transposed convolution of kernel 4, stride 2 and padding 1 computes output rows 2k - 1 and 2k from input rows k - 1
and k, and columns likewise. So it equals a convolution of kernel 2 whose outputs are the four *phases* of the image
(Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?").

Phases are (B, H/2 + 1, W/2 + 1, 4C): the image with a border of one pixel around it, cut into squares of two by two
pixels. The channels of a square are its upper left, upper right, lower left and lower right pixel. The border is 0.
"""

from collections.abc import Iterator, Sequence
from typing import TypeGuard, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smvae_core.inference.full_convolution import FullConvolution, is_small_full_convolution


class PhaseDecoder(nn.Module):
    """A trained decoder whose output is phases, with a copy of the weights.

    Args:
        decoder: a decoder for which `has_phases` holds.
    """

    def __init__(self, decoder: nn.Sequential) -> None:
        super().__init__()
        layers = list(decoder)
        first = next(n for n, layer in enumerate(layers) if _doubles(layer))
        once, *more = (cast(nn.ConvTranspose2d, layer) for layer in layers[first::2])
        self.head = nn.Sequential(*_faster_where_small([*layers[:first], _full_convolution(once)]))
        self.convolutions = nn.ModuleList(_convolution(layer) for layer in more)

    def forward(self, z: Tensor) -> Tensor:
        """Return the phases of the decoder's output for z (B, L), without clearing their border."""
        x: Tensor = self.head(z)
        for convolution in self.convolutions:
            x = convolution(_swish(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return x.permute(0, 2, 3, 1).contiguous()


def has_phases(decoder: nn.Module) -> TypeGuard[nn.Sequential]:
    """Return whether a decoder ends in transposed convolutions (kernel 4, stride 2, padding 1), Swish between them."""
    layers = list(decoder.children())
    first = next((n for n, layer in enumerate(layers) if _doubles(layer)), len(layers))
    tail = layers[first:]
    return (
        isinstance(decoder, nn.Sequential)
        and len(tail) % 2 == 1
        and all(_doubles(layer) for layer in tail[::2])
        and all(isinstance(layer, nn.SiLU) for layer in tail[1::2])
    )


def to_phases(x: Tensor) -> Tensor:
    """Convert images (B, C, H, W) to phases."""
    b, c, h, w = x.shape
    squares = F.pad(x, (1, 1, 1, 1)).view(b, c, h // 2 + 1, 2, w // 2 + 1, 2)
    return squares.permute(0, 2, 4, 3, 5, 1).reshape(b, h // 2 + 1, w // 2 + 1, 4 * c)


def from_phases(phases: Tensor) -> Tensor:
    """Convert phases to images (B, C, H, W)."""
    b, h, w, c = phases.shape
    bordered = phases.view(b, h, w, 2, c // 2).transpose(2, 3).reshape(b, 2 * h, 2 * w, c // 4)
    return bordered[:, 1:-1, 1:-1].permute(0, 3, 1, 2).contiguous()


def clear_border(phases: Tensor) -> Tensor:
    """Set the border of phases to 0, in place, and return them."""
    b, h, w, c = phases.shape
    pixels = phases.view(b, h, w, 2, 2, c // 4)
    pixels[:, 0, :, 0] = 0.0
    pixels[:, -1, :, 1] = 0.0
    pixels[:, :, 0, :, 0] = 0.0
    pixels[:, :, -1, :, 1] = 0.0
    return phases


def _doubles(layer: nn.Module) -> bool:
    return (
        isinstance(layer, nn.ConvTranspose2d)
        and layer.kernel_size == (4, 4)
        and layer.stride == (2, 2)
        and layer.padding == (1, 1)
        and layer.output_padding == (0, 0)
        and layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.bias is not None
    )


def _full_convolution(layer: nn.ConvTranspose2d) -> nn.ConvTranspose2d:
    """Return the convolution from an image without a border to the phases of the layer's output."""
    # Of input row k - t, output row 2k - 1 + p takes row p + 2t of the kernel.
    kernel = torch.tensor([[0, 2], [1, 3]], device=layer.weight.device)
    # From (in, out, p, t, q, u) to (in, p, q, out, t, u).
    weight = layer.weight.detach()[:, :, kernel][..., kernel].permute(0, 2, 4, 1, 3, 5).flatten(1, 3)
    convolution = nn.ConvTranspose2d(layer.in_channels, 4 * layer.out_channels, 2)
    convolution.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
    convolution.bias = nn.Parameter(cast(Tensor, layer.bias).detach().repeat(4), requires_grad=False)
    return convolution


def _convolution(layer: nn.ConvTranspose2d) -> nn.Conv2d:
    """Return the convolution from an image with a border of one pixel to the phases of the layer's output."""
    full = _full_convolution(layer)
    convolution = nn.Conv2d(full.in_channels, full.out_channels, 2)
    weight = full.weight.transpose(0, 1).flip(2, 3)
    convolution.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
    convolution.bias = full.bias
    return convolution


def _faster_where_small(layers: Sequence[nn.Module]) -> Iterator[nn.Module]:
    """Replace the small full convolutions among the layers by products of polynomials."""
    height = width = 0
    for layer in layers:
        if isinstance(layer, nn.Unflatten):
            height, width = layer.unflattened_size[1:]
        yield FullConvolution(layer, height, width) if is_small_full_convolution(layer, height, width) else layer
        if isinstance(layer, nn.ConvTranspose2d):
            height, width = (size + kernel - 1 for size, kernel in zip((height, width), layer.kernel_size))


def _swish(phases: Tensor) -> Tensor:
    """Return Swish of the image with a border of zeros, (B, H + 2, W + 2, C), in one pass over memory."""
    b, h, w, c = phases.shape
    image = phases.new_empty(b, 2 * h, 2 * w, c // 4)
    rows = image.view(b, h, 2, w, c // 2).transpose(2, 3)
    torch.ops.aten.silu.out(phases.view(b, h, w, 2, c // 2), out=rows)
    for edge in (image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]):
        edge.zero_()
    return image

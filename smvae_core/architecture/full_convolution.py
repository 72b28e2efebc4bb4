"""Small full convolutions with a third of the arithmetic, by products of polynomials (Toom 1963, Cook 1966).

A transposed convolution of stride 1 is the product of two polynomials in two variables: pixels are the coefficients of
one, the kernel those of the other. A polynomial of degree d is known by its values at d + 1 points, and there a
product is a product of numbers; here, of the matrices between the channels. From 5 × 5 to 8 × 8 pixels that is 64
products in place of 400. Rounding grows with the number of points: at 8 it is some 1e-5 of the largest output.
"""

import numpy as np
import torch
from torch import Tensor, nn

# Infinity, where a polynomial's value is its leading coefficient, is the last one.
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)


class FullConvolution(nn.Module):
    """A trained transposed convolution, for inputs of one size. It has a copy of the weights.

    Args:
        layer: one that `is_small_full_convolution` of inputs of this size.
        height: of the inputs, pixels.
        width: of the same.
    """

    at_points: Tensor
    kernel: Tensor
    bias: Tensor
    to_pixels: Tensor

    def __init__(self, layer: nn.ConvTranspose2d, height: int, width: int) -> None:
        super().__init__()
        kernel_height, kernel_width = layer.kernel_size
        self._out = (height + kernel_height - 1, width + kernel_width - 1)
        values = np.kron(*(_values(size, points) for size, points in zip((height, width), self._out)))
        of_kernel = np.kron(*(_values(size, points) for size, points in zip(layer.kernel_size, self._out)))
        of_output = np.kron(*(_values(points, points) for points in self._out))
        weight, bias = (x.detach().double().cpu().numpy() for x in (layer.weight, layer.bias))
        kernel = np.einsum("pk,iok->pio", of_kernel, weight.reshape(*weight.shape[:2], -1))
        # The bias is a polynomial as well, all of whose coefficients are the same.
        for name, array in (
            ("at_points", values),
            ("kernel", kernel),
            ("bias", of_output.sum(axis=1)[:, None, None] * bias),
            ("to_pixels", np.linalg.inv(of_output)),
        ):
            self.register_buffer(name, torch.tensor(array, dtype=torch.float32, device=layer.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, height, width) to what the layer gives, pixels first in memory."""
        points, channels, out = self.kernel.shape
        pixels = x.flatten(2).permute(2, 0, 1).flatten(1)
        values = (self.at_points @ pixels).view(points, -1, channels)
        products = torch.baddbmm(self.bias, values, self.kernel).flatten(1)
        return (self.to_pixels @ products).view(*self._out, -1, out).permute(2, 3, 0, 1)


def is_small_full_convolution(layer: nn.Module, height: int, width: int) -> bool:
    """Whether a layer is a transposed convolution of stride 1 without padding, and its output at most 8 × 8 pixels."""
    return (
        isinstance(layer, nn.ConvTranspose2d)
        and layer.stride == layer.dilation == (1, 1)
        and layer.padding == layer.output_padding == (0, 0)
        and layer.groups == 1
        and layer.bias is not None
        and height + layer.kernel_size[0] <= len(_POINTS) + 2
        and width + layer.kernel_size[1] <= len(_POINTS) + 2
    )


def _values(coefficients: int, points: int) -> np.ndarray:
    """From the coefficients of a polynomial to its values at so many points, (points, coefficients)."""
    finite = np.vander(_POINTS[: points - 1], coefficients, increasing=True)
    return np.vstack([finite, np.eye(coefficients)[-1]])

"""Small full convolutions with a third of the arithmetic, by products of polynomials (Toom 1963, Cook 1966).

A transposed convolution of stride 1 is a product of two polynomials in two variables: the pixels are the coefficients
of one, the kernel those of the other. d + 1 values determine a polynomial of degree d, and the values of a product are
products of values (here, of the matrices between the channels). From 5 × 5 to 8 × 8 pixels that is 64
products in place of 400. Rounding grows with the number of points: at 8 by 8 it is some 1e-5 of the largest output, at
9 by 9 some 6e-5.
"""

from typing import TypeGuard, cast

import numpy as np
import torch
from torch import Tensor, nn

_MOST_POINTS = 9


class FullConvolution(nn.Module):
    """A trained transposed convolution for inputs of one size, with a copy of the weights.

    Args:
        layer: a layer for which `is_small_full_convolution` holds at this size.
        height: of the inputs, in pixels.
        width: of the inputs, in pixels.
    """

    rows_at_points: Tensor
    columns_at_points: Tensor
    kernel: Tensor
    bias: Tensor
    points_to_rows: Tensor
    points_to_columns: Tensor

    def __init__(self, layer: nn.ConvTranspose2d, height: int, width: int) -> None:
        super().__init__()
        rows, columns = (size + kernel - 1 for size, kernel in zip((height, width), layer.kernel_size))
        weight, bias = (cast(Tensor, x).detach().double().cpu().numpy() for x in (layer.weight, layer.bias))
        of_kernel = [_values(size, points) for size, points in zip(layer.kernel_size, (rows, columns))]
        of_rows, of_columns = _values(rows, rows), _values(columns, columns)
        # The bias is a polynomial whose coefficients are all the same.
        for name, array in (
            ("rows_at_points", _values(height, rows)),
            ("columns_at_points", _values(width, columns)),
            ("kernel", np.einsum("pk,ql,iokl->pqio", *of_kernel, weight).reshape(rows * columns, *weight.shape[:2])),
            ("bias", np.outer(of_rows.sum(axis=1), of_columns.sum(axis=1)).reshape(-1, 1, 1) * bias),
            ("points_to_rows", np.linalg.inv(of_rows)),
            ("points_to_columns", np.linalg.inv(of_columns)),
        ):
            self.register_buffer(name, torch.tensor(array, dtype=layer.weight.dtype, device=layer.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer returns for (B, C, height, width), with the pixels first in memory."""
        b, channels = x.shape[:2]
        pixels = x.permute(2, 3, 0, 1).flatten(2)
        values = _along_both(self.rows_at_points, self.columns_at_points, pixels).view(-1, b, channels)
        products = torch.baddbmm(self.bias, values, self.kernel)
        points = products.view(len(self.points_to_rows), len(self.points_to_columns), -1)
        out = _along_both(self.points_to_rows, self.points_to_columns, points)
        return out.view(*out.shape[:2], b, -1).permute(2, 3, 0, 1)


def is_small_full_convolution(layer: nn.Module, height: int, width: int) -> TypeGuard[nn.ConvTranspose2d]:
    """Return whether a layer is a transposed convolution, stride 1, no padding, of at most 9 × 9 output pixels."""
    return (
        isinstance(layer, nn.ConvTranspose2d)
        and layer.stride == layer.dilation == (1, 1)
        and layer.padding == layer.output_padding == (0, 0)
        and layer.groups == 1
        and layer.bias is not None
        and height + layer.kernel_size[0] - 1 <= _MOST_POINTS
        and width + layer.kernel_size[1] - 1 <= _MOST_POINTS
    )


def _values(coefficients: int, points: int) -> np.ndarray:
    """Return the matrix from the coefficients of a polynomial to its values, (points, coefficients)."""
    # Points at evenly spaced angles keep rounding small. The last is infinity, where the value is the last coefficient.
    finite = np.tan(np.pi * np.arange(1, points) / points - np.pi / 2)
    return np.vstack([np.vander(finite, coefficients, increasing=True), np.eye(coefficients)[-1]])


def _along_both(rows: Tensor, columns: Tensor, x: Tensor) -> Tensor:
    """Multiply the rows of x (H, W, N) by one matrix and its columns by another."""
    return columns @ (rows @ x.flatten(1)).view(len(rows), *x.shape[1:])

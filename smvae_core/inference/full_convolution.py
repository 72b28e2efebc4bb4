"""Small full convolutions with a third of the arithmetic, by products of polynomials (Toom 1963, Cook 1966).

A transposed convolution of stride 1 is the product of two polynomials in two variables: pixels are the coefficients of
one, the kernel those of the other. A polynomial of degree d is known by its values at d + 1 points, and there a
product is a product of numbers; here, of the matrices between the channels. From 5 × 5 to 8 × 8 pixels that is 64
products in place of 400. Rounding grows with the number of points: at 8 by 8 it is some 1e-5 of the largest output, at
9 by 9 some 6e-5.
"""

import numpy as np
import torch
from torch import Tensor, nn

_MOST_POINTS = 9


class FullConvolution(nn.Module):
    """A trained transposed convolution, for inputs of one size. It has a copy of the weights.

    Args:
        layer: one that `is_small_full_convolution` of inputs of this size.
        height: of the inputs, pixels.
        width: of the same.
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
        weight, bias = (x.detach().double().cpu().numpy() for x in (layer.weight, layer.bias))
        of_kernel = [_values(size, points) for size, points in zip(layer.kernel_size, (rows, columns))]
        of_rows, of_columns = _values(rows, rows), _values(columns, columns)
        # The bias is a polynomial as well, all of whose coefficients are the same.
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
        """(B, C, height, width) to what the layer gives, pixels first in memory."""
        b, channels = x.shape[:2]
        pixels = x.permute(2, 3, 0, 1).flatten(2)
        values = _along_both(self.rows_at_points, self.columns_at_points, pixels).view(-1, b, channels)
        products = torch.baddbmm(self.bias, values, self.kernel)
        points = products.view(len(self.points_to_rows), len(self.points_to_columns), -1)
        out = _along_both(self.points_to_rows, self.points_to_columns, points)
        return out.unflatten(2, (b, -1)).permute(2, 3, 0, 1)


def is_small_full_convolution(layer: nn.Module, height: int, width: int) -> bool:
    """Whether a layer is a transposed convolution of stride 1 without padding, and its output at most 9 × 9 pixels."""
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
    """From the coefficients of a polynomial to its values at so many points, (points, coefficients)."""
    # Evenly by the angle of their slopes, which keeps rounding small. The last is infinity: the leading coefficient.
    finite = np.tan(np.pi * np.arange(1, points) / points - np.pi / 2)
    return np.vstack([np.vander(finite, coefficients, increasing=True), np.eye(coefficients)[-1]])


def _along_both(rows: Tensor, columns: Tensor, x: Tensor) -> Tensor:
    """X (H, W, N) with one matrix times its rows and another times its columns."""
    return columns @ (rows @ x.flatten(1)).unflatten(1, x.shape[1:])

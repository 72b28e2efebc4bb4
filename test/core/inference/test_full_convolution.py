"""Full convolutions by products of polynomials give what torch's own layer gives, and only small ones are taken."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from smvae_core.inference.full_convolution import FullConvolution, is_small_full_convolution

sizes = st.integers(1, 5)


@settings(deadline=None)
@given(height=sizes, width=sizes, kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)), rows=sizes, seed=sizes)
def test_it_gives_what_the_layer_gives(height: int, width: int, kernel: tuple[int, int], rows: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = nn.ConvTranspose2d(3, 2, kernel)
    assert is_small_full_convolution(layer, height, width)
    x = torch.randn(rows, 3, height, width)
    with torch.inference_mode():
        torch.testing.assert_close(FullConvolution(layer, height, width)(x), layer(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("kernel", "side"), [(4, 5), (2, 8)], ids=["eight points", "nine points"])
def test_many_points_and_channels_lose_few_digits(kernel: int, side: int) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(256, 128, kernel)
    x = torch.randn(8, 256, side, side)
    with torch.inference_mode():
        exact = nn.functional.conv_transpose2d(x.double(), layer.weight.double(), layer.bias.double())
        error = (FullConvolution(layer, side, side)(x) - exact).abs().max()
    assert error < 1e-4 * exact.abs().max()


@pytest.mark.parametrize(
    ("layer", "side"),
    [
        (nn.ConvTranspose2d(2, 2, 4), 7),
        (nn.ConvTranspose2d(2, 2, 4, stride=2), 3),
        (nn.ConvTranspose2d(2, 2, 4, padding=1), 5),
        (nn.ConvTranspose2d(2, 2, 4, bias=False), 5),
        (nn.ConvTranspose2d(2, 2, 4, groups=2), 5),
        (nn.Conv2d(2, 2, 4), 5),
    ],
    ids=["large", "stride", "padding", "no bias", "groups", "no transposed one"],
)
def test_other_layers_are_left_alone(layer: nn.Module, side: int) -> None:
    assert not is_small_full_convolution(layer, side, side)

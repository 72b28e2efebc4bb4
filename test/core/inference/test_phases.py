"""Image decoders with their transposed convolutions as convolutions: the same images, and back and forth."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smvae_core.inference.phases import PhaseDecoder, clear_border, from_phases, has_phases, to_phases
from smvae_core.modality import Modality
from smvae_core.model.networks import SIZES, decoder
from smvae_core.preprocessing import RGB, Depth, Grey, Vector


def image(network: str, preprocessing: RGB | Depth | Grey) -> Modality:
    return Modality(name="image", source="image", preprocessing=preprocessing, network=network, likelihood="bernoulli")


@pytest.mark.parametrize("size", ["paper", "compact", "tiny"])
@pytest.mark.parametrize(
    "modality",
    [image("image", RGB(size=64)), image("image", Depth(size=40)), image("small_image", Grey(size=28))],
    ids=["rgb", "depth", "small"],
)
def test_a_decoder_gives_the_same_image_in_phases(modality: Modality, size: str) -> None:
    torch.manual_seed(0)
    plain = decoder(modality, 7, SIZES[size]).eval()
    assert has_phases(plain)
    z = torch.randn(3, 7)
    with torch.inference_mode():
        expected = plain(z)
        found = PhaseDecoder(plain)(z)
        torch.testing.assert_close(from_phases(found), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(clear_border(found), to_phases(expected), atol=1e-5, rtol=1e-5)


@given(rows=st.integers(1, 3), channels=st.integers(1, 4), height=st.integers(1, 6), width=st.integers(1, 6))
def test_phases_hold_every_pixel_once_and_nothing_else(rows: int, channels: int, height: int, width: int) -> None:
    x = torch.rand(rows, channels, 2 * height, 2 * width) + 1.0
    phases = to_phases(x)
    assert phases.shape == (rows, height + 1, width + 1, 4 * channels)
    assert torch.equal(from_phases(phases), x)
    assert torch.equal(phases[phases != 0.0].sort().values, x.flatten().sort().values)


def test_a_decoder_without_such_layers_has_none() -> None:
    flat = image("flat_image", Grey(size=28))
    action = Modality(
        name="action", source="action", preprocessing=Vector(size=4), network="vector", likelihood="normal"
    )
    assert not any(has_phases(decoder(modality, 7, SIZES["tiny"])) for modality in (flat, action))

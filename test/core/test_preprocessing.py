"""From raw arrays to model units and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from smvae_core.modality import Modality, ModalityError
from smvae_core.preprocessing import RGB, Depth, Force, PreprocessingError, Vector


def test_rgb_is_resized_by_area():
    raw = np.zeros((128, 128, 3), np.uint8)
    raw[::2, ::2] = 200
    x = RGB().apply(raw)
    assert x.shape == (3, 64, 64) and x.dtype == np.float32
    np.testing.assert_allclose(x, 50 / 255, atol=1e-6)


@given(arrays.arrays(np.uint8, (64, 64, 3)))
def test_rgb_of_the_models_size_comes_back_exactly(raw):
    np.testing.assert_array_equal(RGB().invert(RGB().apply(raw)), raw)


def test_invalid_depth_is_no_reading_and_does_not_bleed_into_its_neighbours():
    raw = np.full((128, 128), 1.0, np.float32)
    raw[0, 0], raw[0, 1], raw[1, 0] = np.nan, np.inf, 5.0
    raw[2:4, 2:4] = 0.0
    raw[4:6, 4:6] = 2.0
    metres = Depth().invert(Depth().apply(raw))
    assert metres[1, 1] == 0.0 and metres[2, 2] == 0.0 and metres[0, 0] == 0.0
    assert metres[0, 1] == metres[1, 0] == metres[3, 3] == pytest.approx(1.0)


def test_depth_with_half_of_its_readings_is_their_mean():
    raw = np.full((128, 128, 1), 0.8, np.float32)
    raw[::2, :, 0] = 0.0
    np.testing.assert_allclose(Depth().invert(Depth().apply(raw)), 0.8, atol=1e-6)


def test_a_predicted_depth_near_zero_is_no_reading():
    x = np.full((1, 64, 64), 0.4, np.float32)
    x[0, 0, :3] = 0.0, 0.04, 0.06
    np.testing.assert_allclose(Depth().invert(x)[0, :4], [0.0, 0.0, 0.12, 0.8])


def test_force_takes_the_newest_samples_oldest_first():
    raw = np.arange(50, dtype=np.float64)[:, None] / 20 * np.ones(6)
    x = Force().apply(raw)
    assert x.shape == (6, 32)
    np.testing.assert_allclose(x[0], np.tanh(np.arange(18, 50) / 200), rtol=1e-6)
    np.testing.assert_allclose(Force().invert(x), raw[18:], rtol=1e-3)


def test_a_short_force_window_is_filled_with_its_oldest_sample():
    x = Force().invert(Force().apply(np.array([[1.0] * 6, [2.0] * 6])))
    np.testing.assert_allclose(x[:, 0], [1.0] * 31 + [2.0], rtol=1e-4)


@given(arrays.arrays(np.float64, 4, elements=st.floats(-100, 100)))
def test_vectors_come_back(raw):
    vector = Vector(size=4, offset=(1, 2, 3, 4), scale=(0.5, 1, 2, 3))
    np.testing.assert_allclose(vector.invert(vector.apply(raw)), raw, atol=1e-4)


def test_open_scales_are_measured_and_given_ones_are_kept():
    samples = np.random.default_rng(0).normal(3.0, 2.0, (1000, 2))
    fitted = Vector(size=2, offset=(0.0, 0.0)).fitted(samples)
    assert fitted.offset == (0.0, 0.0)
    np.testing.assert_allclose(fitted.scale, samples.std(axis=0))


def test_an_entry_that_never_changes_in_training_keeps_its_unit():
    samples = np.stack([np.linspace(1e-7, 2e-7, 100), np.full(100, 0.1), np.zeros(100)], axis=1)
    fitted = Vector(size=3).fitted(samples)
    np.testing.assert_allclose(fitted.scale, (samples[:, 0].std(), 1.0, 1.0))
    np.testing.assert_allclose(fitted.apply(np.array([1.5e-7, 0.1, 0.02])), [0.0, 0.0, 0.02], atol=1e-6)


@pytest.mark.parametrize(
    "preprocessing, raw, sentence",
    [
        (RGB(), np.zeros((8, 8)), r"uint8 image \(H, W, 3\), found float64 \(8, 8\)"),
        (RGB(), np.zeros((0, 8, 3), np.uint8), "found uint8"),
        (Depth(), np.zeros((8, 8), np.uint16), "float"),
        (Depth(), np.zeros((8, 8, 3), np.float32), r"\(8, 8, 3\)"),
        (Force(), np.zeros((0, 6)), "T >= 1"),
        (Force(), np.zeros((50, 3)), r"\(50, 3\)"),
        (Force(), np.full((50, 6), np.nan), "NaN"),
        (Vector(size=4), np.zeros(3), r"\(3,\)"),
        (Vector(size=1), np.array([np.inf]), "finite"),
    ],
)
def test_what_does_not_fit_is_told_with_expected_and_found(preprocessing, raw, sentence):
    with pytest.raises(PreprocessingError, match=sentence):
        preprocessing.apply(raw)


def test_a_modality_names_itself_in_its_errors():
    modality = Modality(name="rgb", source="image", preprocessing=RGB(), network="image", likelihood="bernoulli")
    with pytest.raises(ModalityError, match="^rgb: expected"):
        modality.to_model(np.zeros(3))


def test_a_network_that_does_not_fit_the_shape_is_refused():
    with pytest.raises(ValueError, match="network 'image' takes 3 dimensions"):
        Modality(name="a", source="a", preprocessing=Vector(size=3), network="image", likelihood="normal")

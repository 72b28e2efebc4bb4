"""Faults are exact: in pixels, metres, newtons and a vector's own units, whatever the model's units."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smvae_core.data.faults import FAULTS, faulty, misfit, stuck
from smvae_core.modality import Modality, vision_touch_modalities
from smvae_core.preprocessing import Vector

RGB, DEPTH, FORCE, _ = vision_touch_modalities()
ACTION = Modality(
    name="action",
    source="action",
    preprocessing=Vector(size=3, offset=(1.0, -2.0, 0.5), scale=(0.1, 2.0, 1.0)),
    network="vector",
    likelihood="normal",
)


def raw_of(modality: Modality, random: np.random.Generator) -> np.ndarray[Any, Any]:
    """A raw array as a sensor sends it, whose values stay in range under small faults."""
    if modality is RGB:
        return random.integers(20, 100, (64, 64, 3)).astype(np.uint8)
    if modality is DEPTH:
        return np.where(random.random((64, 64)) < 0.2, 0.0, random.uniform(0.3, 0.9, (64, 64))).astype(np.float32)
    return random.uniform(-1.5, 1.5, (32, 6) if modality is FORCE else 3).astype(np.float32)


@pytest.mark.parametrize("modality", [RGB, DEPTH, FORCE, ACTION], ids=lambda m: m.name)
@given(seed=st.integers(0, 1000), factor=st.floats(0.5, 2.0), offset=st.floats(0.0, 0.1))
def test_scale_and_bias_are_those_of_physical_values(
    modality: Modality, seed: int, factor: float, offset: float
) -> None:
    raw = raw_of(modality, np.random.default_rng(seed))
    x = modality.to_model(raw)
    physical = raw.astype(np.float64)
    if modality is RGB:  # whole bytes are rounded by the camera, not by the fault
        expected = (
            np.transpose(factor * physical / 255.0, (2, 0, 1)),
            np.transpose((physical + offset) / 255, (2, 0, 1)),
        )
    else:
        reading = (physical > 0.0) | (modality is not DEPTH)
        expected = tuple(
            modality.to_model(np.where(reading, values, 0.0).astype(np.float32))
            for values in (factor * physical, physical + offset)
        )
    np.testing.assert_allclose(faulty(modality, "scale", x, factor), expected[0], atol=2e-5)
    np.testing.assert_allclose(faulty(modality, "bias", x, offset), expected[1], atol=2e-5)
    zeros = faulty(modality, "zero", x)
    np.testing.assert_allclose(zeros, modality.to_model(np.zeros_like(raw)), atol=1e-6)


def test_images_are_covered_moved_and_darkened() -> None:
    x = np.random.default_rng(0).random((5, 3, 64, 64), np.float32)
    covered = faulty(RGB, "cover", x, 0.25)
    assert not covered[..., :16].any() and np.array_equal(covered[..., 16:], x[..., 16:])
    moved = faulty(RGB, "shift", x, 3)
    assert np.array_equal(moved[..., 3:], x[..., :-3])
    assert np.array_equal(moved[..., :3], np.repeat(x[..., :1], 3, axis=-1)), "the edge is repeated"
    assert np.array_equal(faulty(RGB, "shift", x, -3)[..., :-3], x[..., 3:])
    np.testing.assert_allclose(faulty(RGB, "dim", x, 0.7), 0.7 * x, rtol=1e-6)


def test_a_depth_camera_has_readings_only_within_its_range() -> None:
    x = np.array([0.0, 0.4, 0.98], np.float32).reshape(1, 1, 3)
    scaled = faulty(DEPTH, "scale", x, 1.03)
    np.testing.assert_allclose(scaled.ravel(), [0.0, 0.412, 0.0], rtol=1e-6)
    np.testing.assert_allclose(faulty(DEPTH, "bias", x, -0.9).ravel(), [0.0, 0.0, 0.53], rtol=1e-6)


def test_saturated_forces_stay_finite() -> None:
    x = np.full((6, 32), 1.0, np.float32)
    for kind, amount in (("scale", 0.0), ("scale", -2.0), ("bias", 1e6), ("zero", 0.0)):
        assert np.isfinite(faulty(FORCE, kind, x, amount)).all()  # type: ignore[arg-type]


def test_noise_is_of_its_deviation_and_keeps_missing_readings() -> None:
    x = np.full((1, 64, 64), 0.5, np.float32)
    x[:, :10] = 0.0
    noisy = faulty(DEPTH, "noise", x, 0.1, np.random.default_rng(0))
    assert not noisy[:, :10].any() and np.std(noisy[:, 10:] - 0.5) == pytest.approx(0.1, rel=0.05)
    assert noisy.dtype == np.float32


def test_a_frozen_window_repeats_its_newest_row() -> None:
    x = np.random.default_rng(0).random((6, 32), np.float32)
    assert np.array_equal(stuck(FORCE, x), np.repeat(x[:, -1:], 32, axis=1))
    picture = np.random.default_rng(0).random((3, 64, 64), np.float32)
    assert np.array_equal(stuck(RGB, picture), picture)


def test_nothing_is_changed_in_place_and_misfits_are_named() -> None:
    random = np.random.default_rng(0)
    for modality in (RGB, DEPTH, FORCE, ACTION):
        x = modality.to_model(raw_of(modality, random))
        before = x.copy()
        for kind in FAULTS:
            if not misfit(modality, kind):
                assert faulty(modality, kind, x, 0.5, random).shape == x.shape
        stuck(modality, x)[...] = 7.0
        assert np.array_equal(x, before)
    assert "expected an image, found force, which is 6×32 numbers" in misfit(FORCE, "cover")
    assert "expected a camera, found depth" in misfit(DEPTH, "dim")
    assert not misfit(ACTION, "scale")

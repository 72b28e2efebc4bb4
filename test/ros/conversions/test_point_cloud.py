"""Predicted depth to points, through the distortion of a camera."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smvae_ros.conversions.point_cloud import CalibrationError, points_from_depth

K = np.array([60.0, 0.0, 31.5, 0.0, 62.0, 23.5, 0.0, 0.0, 1.0])


@given(
    st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant"]),
    st.lists(st.floats(-0.02, 0.02), min_size=8, max_size=8),
)
def test_points_project_to_the_pixels_that_they_come_from(model: str, numbers: list[float]) -> None:
    d = np.array(numbers[: {"plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}[model]])
    depth = np.random.default_rng(0).uniform(0.5, 2.0, (48, 64)).astype(np.float32)
    points = points_from_depth(depth, 64, 48, K, d, model).astype(np.float64)
    camera = (np.zeros(3), np.zeros(3), K.reshape(3, 3), d)
    if model == "equidistant":
        projected = cv2.fisheye.projectPoints(points[:, None], *camera)[0]
    else:
        projected = cv2.projectPoints(points, *camera)[0]
    rows, columns = np.nonzero(depth)
    np.testing.assert_allclose(projected[:, 0], np.stack([columns, rows], axis=1), atol=0.05)
    np.testing.assert_allclose(points[:, 2], depth.ravel())


def test_distortion_of_zeros_and_depth_without_readings_need_no_model() -> None:
    depth = np.ones((48, 64), np.float32)
    straight = points_from_depth(depth, 64, 48, K)
    np.testing.assert_array_equal(points_from_depth(depth, 64, 48, K, [0.0] * 5, "anything"), straight)
    assert points_from_depth(0 * depth, 64, 48, K, [0.1] * 5, "plumb_bob").shape == (0, 3)


@pytest.mark.parametrize("model", ["", "fov", "x" * 1000])
def test_points_of_an_unknown_distortion_are_refused(model: str) -> None:
    with pytest.raises(CalibrationError, match="expected a CameraInfo with the distortion_model plumb_bob") as refused:
        points_from_depth(np.ones((4, 4), np.float32), 4, 4, K, [0.1], model)
    assert len(str(refused.value)) < 300

"""What each fault makes of pictures and numbers."""

import numpy as np
import pytest

from smvae_ros.simulated_robot.faults import IMAGE_FAULTS, NUMBER_FAULTS, ImageSensor, NumberSensor

PICTURES = {
    "rgb": lambda level: np.full((8, 8, 3), level, np.uint8),
    "depth": lambda level: np.full((8, 8), level / 100, np.float32),
}


def sensor(fault: str) -> ImageSensor:
    made = ImageSensor(np.random.default_rng(0))
    made.fault = fault
    return made


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_a_camera_brings_pictures_of_the_same_kind_or_none(kind: str, fault: str) -> None:
    seen = sensor(fault).measure(PICTURES[kind](100))
    if fault == "unplugged":
        assert seen is None
    else:
        assert seen is not None
        assert (seen.shape, seen.dtype) == (PICTURES[kind](100).shape, PICTURES[kind](100).dtype)


@pytest.mark.parametrize("kind", PICTURES)
def test_a_frozen_camera_repeats_its_last_healthy_picture_until_it_is_mended(kind: str) -> None:
    camera = sensor("none")
    camera.measure(PICTURES[kind](100))
    camera.fault = "frozen"
    for level in (110, 120):
        assert np.array_equal(camera.measure(PICTURES[kind](level)), PICTURES[kind](100))
    camera.fault = "none"
    assert np.array_equal(camera.measure(PICTURES[kind](130)), PICTURES[kind](130))


@pytest.mark.parametrize("kind", PICTURES)
def test_a_covered_camera_loses_its_left_half_and_a_blank_one_everything(kind: str) -> None:
    covered = sensor("covered").measure(PICTURES[kind](100))
    assert covered is not None
    assert not covered[:, :4].any()
    assert np.array_equal(covered[:, 4:], PICTURES[kind](100)[:, 4:])
    blank = sensor("blank").measure(PICTURES[kind](100))
    assert blank is not None
    assert not blank.any()


def test_in_the_dark_a_camera_sees_little_light_and_a_depth_camera_few_pixels() -> None:
    dark = sensor("dark").measure(PICTURES["rgb"](100))
    assert dark is not None
    assert (dark == 15).all()
    sparse = sensor("dark").measure(np.full((100, 100), 1.0, np.float32))
    assert sparse is not None
    assert 0.05 < (sparse > 0).mean() < 0.25


@pytest.mark.parametrize("fault", NUMBER_FAULTS)
def test_numbers(fault: str) -> None:
    made = NumberSensor(np.random.default_rng(0), bias=np.array([1.0, -2.0]))
    first = np.array([3.0, 4.0])
    made.measure(first)
    made.fault = fault
    seen = made.measure(np.array([5.0, 6.0]))
    expected = {
        "none": [5.0, 6.0],
        "unplugged": None,
        "frozen": [3.0, 4.0],
        "zero": [0.0, 0.0],
        "biased": [6.0, 4.0],
        "late": [5.0, 6.0],
        "wrong_stamp": [5.0, 6.0],
    }
    if fault == "noisy":
        assert seen is not None
        assert not np.array_equal(seen, [5.0, 6.0])
    elif expected[fault] is None:
        assert seen is None
    else:
        assert np.array_equal(seen, expected[fault])

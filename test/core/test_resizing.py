"""Images made smaller by area, against OpenCV and against the mean that they stand for."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smvae_core.resizing import resized

SIZES = st.tuples(st.integers(64, 520), st.integers(64, 700), st.sampled_from([8, 16, 30, 32, 64]))


def image(height: int, width: int, kind: type, channels: int | None = None) -> np.ndarray:
    random = np.random.default_rng(height * width)
    shape = (height, width) if channels is None else (height, width, channels)
    return random.integers(0, 256, shape, np.uint8) if kind is np.uint8 else random.random(shape, np.float32)


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES, channels=st.sampled_from([None, 3]), kind=st.sampled_from([np.uint8, np.float32]))
def test_it_gives_what_opencv_gives(sizes: tuple[int, int, int], channels: int | None, kind: type) -> None:
    height, width, size = sizes
    picture = image(height, width, kind, channels)
    found = resized(picture, size)
    expected = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    assert found.dtype == picture.dtype and found.shape == expected.shape
    if kind is np.float32:
        np.testing.assert_allclose(found, expected, atol=2e-6)
    else:
        differs = found != expected
        assert differs.mean() <= 0.01 and np.abs(found.astype(int) - expected)[differs].max(initial=0) <= 1


@pytest.mark.parametrize("height, width", [(480, 640), (720, 1280), (1080, 1920), (600, 800), (4112, 4112)])
def test_bytes_are_the_rounded_means_of_what_they_cover(height: int, width: int) -> None:
    picture = image(height, width, np.uint8)

    def shares(length: int) -> np.ndarray:
        """Return the part of each new pixel that an old one makes up, (64, length)."""
        edges = np.arange(65) * length / 64
        return (
            np.clip(
                np.minimum.outer(edges[1:], np.arange(length) + 1.0) - np.maximum.outer(edges[:-1], np.arange(length)),
                0,
                None,
            )
            * 64
            / length
        )

    exact = shares(height) @ picture @ shares(width).T
    assert np.abs(resized(picture, 64) - exact).max() <= 0.501
    assert (resized(np.full((height, width, 3), 255, np.uint8), 64) == 255).all()

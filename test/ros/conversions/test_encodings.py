"""Encodings that cameras send: exactly the pixels that were put in by hand, whatever the padding and byte order."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from smvae_core.modality import vision_touch_modalities
from smvae_ros.conversions.arrays import raw_array
from smvae_ros.conversions.bindings import bind
from smvae_ros.conversions.errors import ConversionError

from .test_arrays import image

RGB, DEPTH, *_ = bind(vision_touch_modalities(), {})


def raw(encoding: str, height: int, width: int, rows: np.ndarray, padding: int = 0) -> SimpleNamespace:
    """An image of bytes (rows, columns) as they lie in memory."""
    message = image(encoding, rows, padding)
    message.height, message.width = height, width
    return message


@pytest.mark.parametrize("order", ["rgb", "bgr", "rgba", "bgra"])
@given(
    pixels=hnp.arrays(np.uint16, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3))),
    padding=st.integers(0, 3),
    bigendian=st.booleans(),
)
def test_colours_of_16_bits_are_scaled_to_8(order: str, pixels: np.ndarray, padding: int, bigendian: bool) -> None:
    stored = pixels[..., ::-1] if order.startswith("bgr") else pixels
    if order.endswith("a"):
        stored = np.concatenate([stored, np.full_like(stored[..., :1], 9)], axis=-1)
    found = raw_array(RGB, [image(f"{order}16", stored, padding * 2, bigendian)])
    assert found.dtype == np.uint8
    assert np.abs(found - pixels / 257).max() <= 0.5 + 1e-6


@given(hnp.arrays(np.uint16, st.tuples(st.integers(1, 5), st.integers(1, 5))), st.booleans())
def test_grey_of_16_bits_is_grey(pixels: np.ndarray, bigendian: bool) -> None:
    found = raw_array(RGB, [image("mono16", pixels, 0, bigendian)])
    assert np.abs(found - (pixels / 257)[..., None]).max() <= 0.5 + 1e-6


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(4))), st.integers(0, 3))
def test_encodings_without_an_order_of_colours_have_blue_first(pixels: np.ndarray, padding: int) -> None:
    assert np.array_equal(raw_array(RGB, [image("8UC4", pixels, padding)]), pixels[..., 2::-1])
    assert np.array_equal(raw_array(RGB, [image("8UC3", pixels[..., :3], padding)]), pixels[..., 2::-1])
    grey = raw_array(RGB, [image("8UC1", pixels[..., 0], padding)])
    assert np.array_equal(grey, np.repeat(pixels[..., :1], 3, axis=-1))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_give_the_colour_of_a_uniform_surface(pattern: str, bits: int) -> None:
    colour = {"r": 200, "g": 120, "b": 40}
    tile = np.array([colour[letter] for letter in pattern], np.uint8).reshape(2, 2)
    pixels = np.tile(tile, (4, 5)).astype(np.uint8 if bits == 8 else np.uint16)
    found = raw_array(RGB, [image(f"bayer_{pattern}{bits}", pixels if bits == 8 else pixels * 257, 2)])
    assert found.shape == (8, 10, 3)
    assert np.array_equal(found[1:-1, 1:-1], np.broadcast_to(np.array([200, 120, 40], np.uint8), (6, 8, 3)))


# Brightness, and the two colour differences, of the video range of BT.601.
YUV = {"black": (16, 128, 128), "white": (235, 128, 128), "red": (81, 90, 240), "blue": (41, 240, 110)}
RGB_OF = {"black": (0, 0, 0), "white": (255, 255, 255), "red": (254, 0, 0), "blue": (0, 0, 255)}


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("colour", YUV)
@pytest.mark.parametrize(
    "encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "yvyu", "nv12", "nv21", "nv24", "nv42", "yuv444"]
)
def test_video_encodings_give_the_colour_of_a_uniform_surface(encoding: str, colour: str, padding: int) -> None:
    y, u, v = YUV[colour]
    height, width = 4, 6
    if encoding.startswith("nv"):
        pair = (u, v) if encoding in ("nv12", "nv24") else (v, u)
        colours = np.tile(pair, (height // 2, width // 2))
        if encoding in ("nv24", "nv42"):
            # A row of colours is twice as long as one of brightness, and so is its padding.
            colours = np.tile(pair, (height, width)).reshape(2 * height, width)
            colours = np.pad(colours.reshape(height, 2 * width), ((0, 0), (0, 2 * padding)))
            colours = colours.reshape(2 * height, width + padding)
            bright = np.pad(np.full((height, width), y), ((0, 0), (0, padding)))
            rows, padding = np.vstack([bright, colours]), 0
        else:
            rows = np.vstack([np.full((height, width), y), colours])
    elif encoding == "yuv444":
        rows = np.tile((y, u, v), (height, width))
    else:
        quads = {"yuv422": (u, y, v, y), "uyvy": (u, y, v, y), "yvyu": (y, v, y, u)}
        quad = quads.get(encoding, (y, u, y, v))
        rows = np.tile(quad, (height, width // 2))
    found = raw_array(RGB, [raw(encoding, height, width, rows.astype(np.uint8), padding)])
    assert found.shape == (height, width, 3)
    assert np.abs(found.astype(int) - RGB_OF[colour]).max() <= 2


@pytest.mark.parametrize("encoding", ["i420", "yuv420", "yv12"])
@pytest.mark.parametrize("colour", YUV)
def test_planes_of_both_colours_give_the_colour_of_a_uniform_surface(encoding: str, colour: str) -> None:
    y, u, v = YUV[colour]
    first, second = (v, u) if encoding == "yv12" else (u, v)
    rows = np.array([y] * 24 + [first] * 6 + [second] * 6, np.uint8).reshape(6, 6)
    found = raw_array(RGB, [raw(encoding, 4, 6, rows)])
    assert found.shape == (4, 6, 3) and np.abs(found.astype(int) - RGB_OF[colour]).max() <= 2


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floating_point_colours_are_of_0_to_1_or_of_0_to_255(kind: type) -> None:
    bits, pixels = 8 * np.dtype(kind).itemsize, np.array([[[0, 51, 255], [102, 153, 204]]], np.uint8)
    for scale in (1, 255):
        found = raw_array(RGB, [image(f"{bits}FC3", (pixels / scale).astype(kind))])
        assert np.array_equal(found, pixels[..., ::-1])
        grey = raw_array(RGB, [image(f"{bits}FC1", (pixels[..., 1] / scale).astype(kind))])
        assert np.array_equal(grey[..., 0], pixels[..., 1])
    for bad in (-0.5, 300.0, np.nan, np.inf):
        with pytest.raises(ConversionError, match="rgb: expected pixels of 0 to 1 or 0 to 255"):
            raw_array(RGB, [image(f"{bits}FC3", np.full((2, 2, 3), bad, kind))])


@pytest.mark.parametrize(("encoding", "kind"), [("16SC1", np.int16), ("32SC1", np.int32)])
def test_depth_of_signed_integers_is_millimetres(encoding: str, kind: type) -> None:
    np.testing.assert_allclose(raw_array(DEPTH, [image(encoding, np.array([[850, -1]], kind))]), [[0.85, -0.001]])


def test_the_height_of_nv12_may_count_the_rows_of_both_planes() -> None:
    rows = np.vstack([np.full((4, 6), 235), np.full((2, 6), 128)]).astype(np.uint8)
    found = raw_array(RGB, [raw("nv12", 6, 6, rows)])
    assert found.shape == (4, 6, 3) and (found == 255).all()


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.floats(0, 9)), st.booleans())
def test_depth_of_64_bits_is_metres(pixels: np.ndarray, bigendian: bool) -> None:
    np.testing.assert_array_equal(raw_array(DEPTH, [image("64FC1", pixels, 8, bigendian)]), pixels.astype(np.float32))


@given(hnp.arrays(np.uint16, st.tuples(st.integers(1, 5), st.integers(1, 5))), st.booleans())
def test_depth_as_grey_of_16_bits_is_millimetres(pixels: np.ndarray, bigendian: bool) -> None:
    found = raw_array(DEPTH, [image("mono16", pixels, 2, bigendian)])
    np.testing.assert_allclose(found, pixels / 1000, rtol=1e-6)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (raw("yuyv", 2, 3, np.zeros((2, 6), np.uint8)), "expected a yuyv image of a size that fits"),
        (raw("nv12", 3, 4, np.zeros((4, 4), np.uint8)), "expected a nv12 image of a size that fits"),
        (raw("nv12", 4, 4, np.zeros((5, 4), np.uint8)), "expected 6 rows of at least 4 bytes for 4 × 4 pixels of nv12"),
        (raw("bayer_rggb8", 2, 4, np.zeros((2, 3), np.uint8)), "expected a step of at least 4"),
        (raw("rgb16", 2, 4, np.zeros((2, 12), np.uint8)), "expected a step of at least 24"),
        (
            raw("nv24", 2, 4, np.zeros((3, 4), np.uint8)),
            "expected 2 rows of at least 4 bytes and as many of 8 for 4 × 2",
        ),
        (raw("yv12", 4, 4, np.zeros((6, 4), np.uint8), 2), "expected a step of 4 for 4 pixels of yv12, found 6"),
        (raw("yuv444", 2, 4, np.zeros((2, 8), np.uint8)), "expected a step of at least 12"),
        (raw("8SC3", 2, 4, np.zeros((2, 12), np.uint8)), "expected encoding rgb8, .*found '8SC3'"),
    ],
)
def test_a_size_that_does_not_fit_the_encoding_is_refused(message: SimpleNamespace, sentence: str) -> None:
    with pytest.raises(ConversionError, match=f"rgb: {sentence}"):
        raw_array(RGB, [message])


@given(
    st.sampled_from(
        ["yuyv", "nv12", "nv24", "yv12", "yuv444", "32FC3", "bayer_rggb8", "bayer_gbrg16", "mono16", "8UC4", "64FC1"]
    ),
    st.data(),
)
def test_no_size_of_any_encoding_raises_anything_but_a_conversion_error(encoding: str, data: st.DataObject) -> None:
    height, width, step = (data.draw(st.integers(-1, 9)) for _ in range(3))
    content = np.zeros(data.draw(st.integers(0, 200)), np.uint8)
    message = SimpleNamespace(
        height=height, width=width, step=step, encoding=encoding, is_bigendian=0, data=content.tobytes()
    )
    for binding in (RGB, DEPTH):
        try:
            raw_array(binding, [message])
        except ConversionError as error:
            assert "\n" not in str(error)

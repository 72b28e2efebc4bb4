"""RVL: decoded to what the codec of compressed_depth_image_transport, written out here, made of it."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from smvae_ros.conversions.arrays import raw_array
from smvae_ros.conversions.errors import ConversionError
from smvae_ros.conversions.rvl import decoded_rvl

from .test_compressed import DEPTH, message

# Many zeros, as depth images have.
DEPTHS = hnp.arrays(
    np.uint16, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.one_of(st.just(0), st.integers(0, 65535))
)


def rvl(pixels: np.ndarray) -> bytes:
    """Pixel by pixel, as RvlCodec::CompressRVL."""
    nibbles: list[int] = []

    def encode(value: int) -> None:
        while True:
            nibble, value = value & 7, value >> 3
            nibbles.append(nibble | (8 if value else 0))
            if not value:
                return

    flat, at, previous = pixels.ravel().tolist(), 0, 0
    while at < len(flat):
        start = at
        while at < len(flat) and not flat[at]:
            at += 1
        encode(at - start)
        start = at
        while at < len(flat) and flat[at]:
            at += 1
        encode(at - start)
        for value in flat[start:at]:
            delta = value - previous
            encode((delta << 1) ^ (delta >> 31))
            previous = value
    nibbles += [0] * (-len(nibbles) % 8)
    words = [int("".join(f"{nibble:x}" for nibble in nibbles[n : n + 8]), 16) for n in range(0, len(nibbles), 8)]
    return struct.pack("<II", *pixels.shape[::-1]) + struct.pack(f"<{len(words)}I", *words)


@given(DEPTHS)
def test_rvl_is_the_depth_that_was_encoded(pixels: np.ndarray) -> None:
    assert np.array_equal(decoded_rvl(rvl(pixels), 10_000), pixels)


@given(DEPTHS)
def test_rvl_of_millimetres_is_metres(pixels: np.ndarray) -> None:
    data = struct.pack("<iff", 1, 0, 0) + rvl(pixels)
    metres = raw_array(DEPTH, [message(data, "16UC1; compressedDepth rvl")])
    assert np.array_equal(metres, pixels.astype(np.float32) * np.float32(0.001))


def test_rvl_of_inverse_depth_is_metres() -> None:
    data = struct.pack("<iff", 1, 10100.0, -1009.0) + rvl(np.array([[0, 4041]], np.uint16))
    metres = raw_array(DEPTH, [message(data, "32FC1; compressedDepth rvl")])
    assert np.isnan(metres[0, 0]) and metres[0, 1] == pytest.approx(2.0)


@given(DEPTHS.filter(lambda pixels: pixels.any()), st.floats(0, 1, exclude_max=True))
def test_rvl_that_was_cut_off_is_refused(pixels: np.ndarray, part: float) -> None:
    whole = rvl(pixels)
    try:
        found = decoded_rvl(whole[: int(part * len(whole)) // 4 * 4], 10_000)
    except ConversionError:
        return
    assert np.array_equal(found, pixels), "only padding was cut off"


@given(st.binary(max_size=80))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    try:
        pixels = decoded_rvl(data, 10_000)
    except ConversionError:
        return
    assert pixels.dtype == np.uint16


def test_more_pixels_than_allowed_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(ConversionError, match="expected an image of 1 to 100 pixels, found 65535 × 65535"):
        decoded_rvl(struct.pack("<III", 65535, 65535, 0), 100)

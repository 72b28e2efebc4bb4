"""CompressedImage to pixels: exactly the encoded pixels, and a ConversionError for everything that is no picture."""

import struct
import zlib
from array import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from smvae_core.modality import Modality, vision_touch_modalities
from smvae_core.preprocessing import Grey
from smvae_ros.conversions.arrays import raw_array
from smvae_ros.conversions.bindings import COMPRESSED, Binding, bind
from smvae_ros.conversions.errors import ConversionError
from smvae_ros.conversions.images import MOST_PIXELS

RGB, DEPTH, *_ = bind(vision_touch_modalities(), {"rgb": COMPRESSED, "depth": COMPRESSED})
COLOURS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))
SHORTS = hnp.arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)))
PICTURE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
MILLIMETRES = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16) * 300


def encoded(pixels: np.ndarray, kind: str = ".png", *options: int) -> bytes:
    """As OpenCV writes it: of three channels, the first is blue."""
    return cv2.imencode(kind, pixels, options)[1].tobytes()


def message(data: bytes, compressed_as: str) -> SimpleNamespace:
    return SimpleNamespace(format=compressed_as, data=array("B", data))


def headed(values: np.ndarray, a: float = 0.0, b: float = 0.0) -> bytes:
    """As compressed_depth_image_transport packs it."""
    return struct.pack("<iff", 0, a, b) + encoded(values)


@pytest.mark.parametrize(
    "compressed_as",
    ["png", "", "rgb8; png compressed bgr8", "bgr8; png compressed bgr8", "yuv422; png compressed bgr8"],
)
@given(pixels=COLOURS)
def test_a_png_is_the_picture_that_was_encoded(compressed_as: str, pixels: np.ndarray) -> None:
    decoded = raw_array(RGB, [message(encoded(pixels[..., ::-1]), compressed_as)])
    assert decoded.dtype == np.uint8 and np.array_equal(decoded, pixels)


@pytest.mark.parametrize(
    "compressed_as", ["rgb8; png compressed rgb8", "rgb8; jpeg compressed ", "bgr8; png compressed"]
)
def test_colours_that_the_sender_did_not_turn_to_bgr_are_not_turned_back(compressed_as: str) -> None:
    assert np.array_equal(raw_array(RGB, [message(encoded(PICTURE), compressed_as)]), PICTURE)


@given(pixels=COLOURS)
def test_alpha_is_left_out_and_grey_repeated(pixels: np.ndarray) -> None:
    with_alpha = np.concatenate([pixels[..., ::-1], np.full_like(pixels[..., :1], 7)], axis=-1)
    assert np.array_equal(raw_array(RGB, [message(encoded(with_alpha), "bgra8; png compressed bgr8")]), pixels)
    grey = pixels[..., 0]
    decoded = raw_array(RGB, [message(encoded(grey), "mono8; png compressed ")])
    assert np.array_equal(decoded, np.stack([grey] * 3, axis=-1))


def test_a_grey_modality_takes_a_compressed_picture() -> None:
    modality = Modality(name="grey", source="grey", preprocessing=Grey(), network="image", likelihood="bernoulli")
    decoded = raw_array(Binding(modality, COMPRESSED), [message(encoded(PICTURE[..., 0]), "mono8; png compressed ")])
    assert np.array_equal(decoded, PICTURE[..., 0])


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("compressed_as", ["jpeg", "rgb8; jpeg compressed bgr8"])
def test_a_jpeg_is_nearly_the_picture_that_was_encoded(compressed_as: str, progressive: int) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp[:48, None], ramp, np.uint8(40)), axis=-1)
    data = encoded(pixels[..., ::-1], ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    # Cameras that send MJPEG fill up to whole buffers.
    decoded = raw_array(RGB, [message(data + bytes(100), compressed_as)])
    assert np.abs(decoded.astype(int) - pixels).max() <= 12
    assert np.abs(decoded.astype(int) - pixels).mean() < 2


def test_an_orientation_in_the_exif_does_not_turn_the_picture() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = encoded(PICTURE, ".jpg")
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (16, 12, 3)
    assert np.array_equal(raw_array(RGB, [message(turned, "jpeg")]), raw_array(RGB, [message(data, "jpeg")]))


@pytest.mark.parametrize(
    "compressed_as",
    [
        "16UC1; compressedDepth png",
        "16UC1; compressedDepth",
        "16UC1",
        "16UC1; png compressed ",
        "png",
        "mono16; compressedDepth png",
    ],
)
@given(values=SHORTS, with_header=st.booleans())
def test_integer_depth_is_millimetres(compressed_as: str, values: np.ndarray, with_header: bool) -> None:
    data = headed(values) if with_header else encoded(values)
    metres = raw_array(DEPTH, [message(data, compressed_as)])
    assert metres.dtype == np.float32 and np.array_equal(metres, values.astype(np.float32) * np.float32(0.001))


@pytest.mark.parametrize("compressed_as", ["32FC1; compressedDepth png", "32FC1; compressedDepth", "32FC1"])
@given(
    metres=hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(0.5, 9, width=32))
)
def test_float_depth_is_exact_up_to_its_quantisation(compressed_as: str, metres: np.ndarray) -> None:
    # The publisher's defaults: depth_quantization 100, depth_max 10 m (codec.cpp, encodeCompressedDepthImage).
    a = np.float32(100 * 101)
    b = np.float32(1 - a / 10)
    values = (a / metres + b).astype(np.uint16)
    values[0, 0] = 0
    decoded = raw_array(DEPTH, [message(headed(values, a, b), compressed_as)])
    assert decoded.dtype == np.float32
    assert np.isnan(decoded[0, 0]) and np.isfinite(decoded).sum() == decoded.size - 1
    np.testing.assert_array_equal(decoded.ravel()[1:], (a / (values.astype(np.float32) - b)).ravel()[1:])
    # One step of the inverse depth is d² / A.
    error = np.abs(decoded - metres).ravel()[1:]
    assert (error <= metres.ravel()[1:] ** 2 / a * 1.1 + 1e-5).all()


JPEG = encoded(PICTURE, ".jpg")
SCANS = message(JPEG[:-2] + b"\xff\xda\0\x02" * 200 + JPEG[-2:], "jpeg")
TALL = encoded(PICTURE)[:16] + struct.pack(">II", 1 << 16, 1 << 16) + encoded(PICTURE)[24:]
LONG = encoded(PICTURE)[:33] + b"\x7f" + encoded(PICTURE)[34:]
ANIMATED = encoded(PICTURE)[:33] + b"\0\0\0\x08acTL" + bytes(12) + encoded(PICTURE)[33:]
SOF = JPEG.index(b"\xff\xc0") + 5
WIDE = JPEG[:SOF] + struct.pack(">HH", 65_000, 65_000) + JPEG[SOF + 4 :]
EMPTY = JPEG[:SOF] + struct.pack(">HH", 0, 16) + JPEG[SOF + 4 :]


@pytest.mark.parametrize(
    ("binding", "broken", "words"),
    [
        (
            RGB,
            message(b"", "jpeg"),
            "expected a JPEG or a PNG, found something else of 0 bytes, which begins with noth",
        ),
        (RGB, message(b"BM" + bytes(60), "bmp"), "expected a JPEG or a PNG, .* which begins with 424d"),
        (RGB, message(encoded(PICTURE, ".tiff"), "rgb8; tiff compressed "), "expected a JPEG or a PNG"),
        (RGB, message(JPEG[:-200], "jpeg"), "expected a whole JPEG, found .* bytes without its size or end"),
        (RGB, message(JPEG[:20], "jpeg"), "expected a whole JPEG, found 20 bytes without its size or end"),
        (RGB, message(encoded(PICTURE)[:-30], "png"), "expected a whole PNG, found .* bytes without its end"),
        (RGB, message(LONG, "png"), "expected a whole PNG, found .* bytes without its end"),
        (RGB, message(ANIMATED, "png"), "expected one picture, found an animated PNG"),
        (RGB, message(TALL, "png"), f"1 to {MOST_PIXELS} pixels, found 65536 × 65536"),
        (RGB, message(WIDE, "jpeg"), f"1 to {MOST_PIXELS} pixels, found 65000 × 65000"),
        (RGB, message(EMPTY, "jpeg"), "pixels, found 16 × 0"),
        (RGB, SCANS, "expected a JPEG of at most 100 scans, found 201"),
        (RGB, message(headed(MILLIMETRES), "16UC1; compressedDepth png"), "expected a picture in colours or grey"),
        (RGB, message(encoded(MILLIMETRES), "16UC1; png compressed "), "expected a picture in colours or grey"),
        (RGB, message(encoded(PICTURE), "bayer_rggb8; png compressed "), "found format 'bayer_rggb8; png compressed '"),
        (RGB, SimpleNamespace(format="jpeg"), "expected a whole CompressedImage, found one with .*data"),
        (RGB, SimpleNamespace(format=3, data=b""), "expected a whole CompressedImage"),
        (RGB, SimpleNamespace(format="jpeg", data=None), "expected a whole CompressedImage"),
        (
            DEPTH,
            message(headed(MILLIMETRES), "16UC1; compressedDepth rvl"),
            "expected an image of 1 to .* pixels, found",
        ),
        (DEPTH, message(JPEG, "jpeg"), "expected a format that begins with 16UC1 or 32FC1, found format 'jpeg'"),
        (DEPTH, message(JPEG, "16UC1; jpeg compressed mono8"), "expected a PNG of 16-bit grey, found a JPEG"),
        (DEPTH, message(encoded(PICTURE), "16UC1; png compressed "), "expected a PNG of 16-bit grey, found a PNG"),
        (DEPTH, message(encoded(PICTURE[..., 0]), "16UC1; png compressed "), "expected a PNG of 16-bit grey"),
        (DEPTH, message(encoded(MILLIMETRES), "32FC1; png compressed "), "expected a 32FC1 with the header"),
        (DEPTH, message(headed(MILLIMETRES, np.inf, 1), "32FC1; compressedDepth png"), "finite depth parameters"),
        (DEPTH, message(headed(MILLIMETRES)[:-40], "16UC1; compressedDepth png"), "expected a whole PNG"),
        (DEPTH, message(b"", "16UC1; compressedDepth png"), "begins with nothing"),
    ],
)
def test_a_payload_that_is_no_picture_is_named(binding: Binding, broken: SimpleNamespace, words: str) -> None:
    with pytest.raises(ConversionError, match=words) as caught:
        raw_array(binding, [broken])
    assert str(caught.value).startswith(f"{binding.modality.name}: ")


def test_a_payload_that_the_decoder_gives_up_on_is_damaged() -> None:
    chunk = struct.pack(">I", 4) + b"IDAT" + b"evil" + struct.pack(">I", zlib.crc32(b"IDATevil"))
    data = encoded(PICTURE)[:33] + chunk + b"\0\0\0\0IEND\xaeB`\x82"
    with pytest.raises(ConversionError, match="rgb: expected a whole picture of 16 × 12, found .* damaged bytes"):
        raw_array(RGB, [message(data, "png")])


WHOLE = {
    "jpeg": (RGB, JPEG),
    "rgb8; png compressed bgr8": (RGB, encoded(PICTURE)),
    "16UC1; compressedDepth png": (DEPTH, headed(MILLIMETRES)),
    "32FC1; compressedDepth png": (DEPTH, headed(MILLIMETRES, 10100, -1009)),
}


@pytest.mark.parametrize("compressed_as", WHOLE)
@given(part=st.floats(0, 1, exclude_max=True))
@example(part=0.999)
def test_a_payload_that_was_cut_off_is_a_conversion_error(compressed_as: str, part: float) -> None:
    binding, data = WHOLE[compressed_as]
    with pytest.raises(ConversionError):
        raw_array(binding, [message(data[: int(part * len(data))], compressed_as)])


@pytest.mark.parametrize("compressed_as", WHOLE)
@settings(deadline=None)  # a size that grew, though not beyond the limit, is allocated
@given(data=st.data())
def test_changed_bytes_raise_only_a_conversion_error(compressed_as: str, data: st.DataObject) -> None:
    binding, whole = WHOLE[compressed_as]
    changed = bytearray(whole)
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=8)):
        changed[at] = data.draw(st.integers(0, 255))
    try:
        raw = raw_array(binding, [message(bytes(changed), compressed_as)])
    except ConversionError:
        return
    assert raw.dtype == (np.uint8 if binding is RGB else np.float32)


@given(st.text(), st.binary(), st.sampled_from([RGB, DEPTH]))
def test_foreign_formats_and_bytes_are_conversion_errors(compressed_as: str, data: bytes, binding: Binding) -> None:
    with pytest.raises(ConversionError):
        raw_array(binding, [message(data, compressed_as)])

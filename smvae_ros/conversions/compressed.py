"""CompressedImage to pixels, as image_transport's plugins `compressed` and `compressedDepth` encode them.

Only JPEG, PNG and RVL are decoded: cameras use no other format, and every decoder more is one more to attack. The size
is read from the encoded header and checked against a limit before a decoder allocates memory.
"""

from __future__ import annotations

import re
from struct import unpack_from
from typing import Any

import cv2
import numpy as np

from smvae_ros.conversions.errors import ConversionError
from smvae_ros.conversions.rvl import decoded_rvl

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_END_OF_JPEG = b"\xff\xd9"
# SOF0 to SOF15 hold the size; the three markers between them are DHT, JPG and DAC.
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA
# Progressive encoders write about ten. Each scan, however short, costs the decoder a pass over the whole picture.
_MOST_SCANS = 100
# The most chunks of a PNG (usually of 8 KiB each), and the most segments before the first scan of a JPEG.
_MOST_PARTS = 1 << 16
# TEM, RST0 to RST7, SOI and EOI have no length. None of them belongs before the first scan.
_JPEG_BARE = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
# compressed_depth_image_transport's ConfigHeader: an enum, then A and B of the inverse depth.
_CONFIG = "<iff"
_CONFIG_SIZE = 12
_COLOURS = re.compile(r"(rgb|bgr)a?(8|16)")
_RAW = re.compile(r"bayer_\w+|(8|16|32|64)[USF]C\d+")


def decoded_colour(message: Any, most_pixels: int) -> np.ndarray:
    """Decode a colour picture to uint8 (H, W, 3), RGB; grey is repeated, alpha left out, 16 bits become 8.

    Raises:
        ConversionError: not a whole JPEG or PNG in colours or grey, or more than `most_pixels`.
    """
    encoding, target = _format(message)
    if "compressedDepth" in target or (_RAW.fullmatch(encoding) and not re.search("mono|rgb|bgr", target)):
        raise ConversionError(f"expected a picture in colours or grey, found {_shown(message)}")
    # The orientation in the Exif data is ignored, as image_transport ignores it.
    pixels = _decoded(_payload(message), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, most_pixels)
    # As in image_transport's CompressedSubscriber: OpenCV encodes from BGR, so red and blue are exchanged in a
    # picture whose sender did not convert its RGB first.
    if target and _COLOURS.fullmatch(encoding) and "compressed bgr" not in target:
        return pixels
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def decoded_metres(message: Any, most_pixels: int) -> np.ndarray:
    """Decode depth to float32 (H, W), metres; pixels without a reading are NaN in a 32FC1 and 0 in a 16UC1.

    A 16UC1 is a PNG or RVL of millimetres, with the header of `compressedDepth` before it (a PNG also without). A 32FC1
    is a PNG or RVL of inverse depth v behind that header, whose A and B give A / (v - B) metres
    (compressed_depth_image_transport, codec.cpp, decodeCompressedDepthImage).

    Raises:
        ConversionError: not a whole PNG of 16-bit grey or RVL, or more than `most_pixels`.
    """
    encoding, target = _format(message)
    # Of mono16 the plugin makes the same as of 16UC1.
    if encoding not in ("16UC1", "32FC1", "mono16", "png"):
        raise ConversionError(f"expected a format that begins with 16UC1 or 32FC1, found {_shown(message)}")
    data = _payload(message)
    # Decided by the bytes: the format of older publishers is "16UC1" with and without the header.
    headed = "rvl" in target or data.startswith(_PNG, _CONFIG_SIZE)
    values = decoded_rvl(data[_CONFIG_SIZE:], most_pixels) if "rvl" in target else _png16(data, headed, most_pixels)
    metres: np.ndarray = values.astype(np.float32)
    if encoding != "32FC1":
        metres *= np.float32(0.001)
        return metres
    if not headed:
        raise ConversionError("expected a 32FC1 with the header of compressedDepth, found a PNG alone")
    _, a, b = unpack_from(_CONFIG, data)
    if not np.isfinite((a, b)).all():
        raise ConversionError(f"expected finite depth parameters, found {a} and {b}")
    with np.errstate(divide="ignore", over="ignore"):
        metres -= np.float32(b)
        np.divide(np.float32(a), metres, out=metres)
    metres[values == 0] = np.nan
    return metres


def size_of_picture(data: Any) -> tuple[int, int]:
    """Return width and height of a compressed picture, with or without the header of `compressedDepth`.

    Raises:
        ConversionError: neither a whole JPEG nor a whole PNG.
    """
    encoded = bytes(memoryview(data))
    return _size(encoded[_CONFIG_SIZE:] if encoded.startswith(_PNG, _CONFIG_SIZE) else encoded)


def _png16(data: bytes, headed: bool, most_pixels: int) -> np.ndarray:
    picture = data[_CONFIG_SIZE:] if headed else data
    if not picture.startswith(_PNG) or picture[24:26] != b"\x10\x00":
        raise ConversionError(f"expected a PNG of 16-bit grey, found {_beginning(picture)}")
    values = _decoded(picture, cv2.IMREAD_UNCHANGED, most_pixels)
    if values.dtype != np.uint16 or values.ndim != 2:
        raise ConversionError(f"expected a PNG of 16-bit grey, found one of {values.dtype} {values.shape}")
    return values


def _format(message: Any) -> tuple[str, str]:
    """Return the encoding before the compression and how it was compressed, "" if the format does not say how."""
    encoding, _, target = message.format.partition(";")
    return encoding.strip(), target.strip()


def _payload(message: Any) -> bytes:
    return bytes(memoryview(message.data))


def _decoded(data: bytes, flags: int, most_pixels: int) -> np.ndarray:
    width, height = _size(data)
    if not 0 < width * height <= most_pixels:
        raise ConversionError(f"expected an image of 1 to {most_pixels} pixels, found {width} × {height}")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ConversionError(f"expected a picture that OpenCV can decode, found: {error.err}") from None
    if pixels is None or pixels.shape[:2] != (height, width):
        raise ConversionError(f"expected a whole picture of {width} × {height}, found {len(data)} damaged bytes")
    return pixels


def _size(data: bytes) -> tuple[int, int]:
    """Return width and height, from the encoded header.

    The end must be there too: OpenCV before 4.11 fills the rest of a cut-off picture with grey.
    """
    if data.startswith(_PNG):
        return _size_of_png(data)
    if data.startswith(_JPEG):
        return _size_of_jpeg(data)
    raise ConversionError(f"expected a JPEG or a PNG, found {_beginning(data)}")


def _size_of_png(data: bytes) -> tuple[int, int]:
    at = len(_PNG)
    if data[at : at + 8] != b"\0\0\0\rIHDR":
        raise ConversionError(f"expected a whole PNG, found {_beginning(data)}")
    # OpenCV allocates the length that a chunk declares, whether its bytes are there or not.
    for _ in range(_MOST_PARTS):
        if at + 12 > len(data):
            break
        length, kind = unpack_from(">I4s", data, at)
        at += 12 + length
        if kind == b"acTL":
            raise ConversionError("expected one picture, found an animated PNG")
        if kind == b"IEND" and at <= len(data):
            width, height = unpack_from(">II", data, len(_PNG) + 8)
            return width, height
    raise ConversionError(f"expected a whole PNG, found {len(data)} bytes without its end")


def _size_of_jpeg(data: bytes) -> tuple[int, int]:
    scans = data.count(bytes((0xFF, _JPEG_SCAN)))
    if scans > _MOST_SCANS:
        raise ConversionError(f"expected a JPEG of at most {_MOST_SCANS} scans, found {scans}")
    at, size = len(_JPEG), None
    for _ in range(_MOST_PARTS):
        if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] in _JPEG_BARE:
            break
        if data[at + 1] == 0xFF:  # padding
            at += 1
            continue
        marker, length = data[at + 1], unpack_from(">H", data, at + 2)[0]
        if marker == _JPEG_SCAN and size is not None and data.find(_END_OF_JPEG, at) > 0:
            return size
        if marker in _JPEG_SIZES and at + 9 <= len(data):
            height, width = unpack_from(">HH", data, at + 5)
            size = width, height
        at += 2 + length
    raise ConversionError(f"expected a whole JPEG, found {len(data)} bytes without its size or end")


def _beginning(data: bytes) -> str:
    kind = "a JPEG" if data.startswith(_JPEG) else "a PNG" if data.startswith(_PNG) else "something else"
    return f"{kind} of {len(data)} bytes, which begins with {data[:8].hex() or 'nothing'}"


def _shown(message: Any) -> str:
    return f"format {message.format[:60]!r}"

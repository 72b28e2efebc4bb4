"""The pixels of images: sensor_msgs/Image in the encodings that cameras send, and sensor_msgs/CompressedImage.

OpenCV converts all encodings in the tables below. cv_bridge, where it is installed, converts others.
"""

from __future__ import annotations

from functools import cache
from operator import index
from typing import Any, NamedTuple

import cv2
import numpy as np

from smvae_ros.conversions.compressed import decoded_colour, decoded_metres
from smvae_ros.conversions.errors import ConversionError

MOST_PIXELS = 64 * 1024 * 1024
"""Larger images are refused."""


class ImageFields(NamedTuple):
    """The fields of a sensor_msgs/Image. A message object can stand in its place."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CompressedFields(NamedTuple):
    """The fields of a sensor_msgs/CompressedImage. A message object can stand in its place."""

    format: str
    data: Any


class _Layout(NamedTuple):
    """How the pixels of an encoding are stored, and OpenCV's code that makes RGB of them; None if they are RGB.

    Floating-point pixels are 0 to 1, or 0 to 255 where one is above 1.
    """

    code: int | None
    channels: int = 1
    type: str = "u1"


# OpenCV names a Bayer pattern by the second and third pixel of the second row, ROS by the first two of either row.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_CHANNELS: dict[str, tuple[int | None, int]] = {
    "rgb": (None, 3),
    "bgr": (cv2.COLOR_BGR2RGB, 3),
    "rgba": (cv2.COLOR_RGBA2RGB, 4),
    "bgra": (cv2.COLOR_BGRA2RGB, 4),
    "mono": (cv2.COLOR_GRAY2RGB, 1),
}
_FLOATS = ((32, "f4"), (64, "f8"))
_COLOURS: dict[str, _Layout] = {
    **{f"{name}8": _Layout(code, channels) for name, (code, channels) in _CHANNELS.items()},
    **{f"{name}16": _Layout(code, channels, "u2") for name, (code, channels) in _CHANNELS.items()},
    **{f"bayer_{name}8": _Layout(code) for name, code in _BAYER.items()},
    **{f"bayer_{name}16": _Layout(code, 1, "u2") for name, code in _BAYER.items()},
    # Encodings without an order of colours come from OpenCV programs, where blue is first.
    "8UC1": _Layout(cv2.COLOR_GRAY2RGB),
    "8UC3": _Layout(cv2.COLOR_BGR2RGB, 3),
    "8UC4": _Layout(cv2.COLOR_BGRA2RGB, 4),
    "16UC1": _Layout(cv2.COLOR_GRAY2RGB, 1, "u2"),
    "16UC3": _Layout(cv2.COLOR_BGR2RGB, 3, "u2"),
    "16UC4": _Layout(cv2.COLOR_BGRA2RGB, 4, "u2"),
    **{f"{bits}FC1": _Layout(cv2.COLOR_GRAY2RGB, 1, kind) for bits, kind in _FLOATS},
    **{f"{bits}FC3": _Layout(cv2.COLOR_BGR2RGB, 3, kind) for bits, kind in _FLOATS},
    **{f"{bits}FC4": _Layout(cv2.COLOR_BGRA2RGB, 4, kind) for bits, kind in _FLOATS},
    "yuv422": _Layout(cv2.COLOR_YUV2RGB_UYVY, 2),
    "uyvy": _Layout(cv2.COLOR_YUV2RGB_UYVY, 2),
    "yuv422_yuy2": _Layout(cv2.COLOR_YUV2RGB_YUY2, 2),
    "yuyv": _Layout(cv2.COLOR_YUV2RGB_YUY2, 2),
    "yvyu": _Layout(cv2.COLOR_YUV2RGB_YVYU, 2),
}
# Two pixels share a colour. OpenCV 4.6 would take an odd width without a word.
_PAIRS = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv", "yvyu")
# A plane of brightness, then colour at half of the resolution, as one plane of pairs or as two planes.
_PLANES = {
    "nv12": cv2.COLOR_YUV2RGB_NV12,
    "nv21": cv2.COLOR_YUV2RGB_NV21,
    "i420": cv2.COLOR_YUV2RGB_I420,
    "yuv420": cv2.COLOR_YUV2RGB_I420,
    "yv12": cv2.COLOR_YUV2RGB_YV12,
}
_TWO_PLANES = ("i420", "yuv420", "yv12")
# Brightness and colour of the video range of BT.601 at full resolution, which OpenCV has no code for, to RGB.
_FULL = ("yuv444", "nv24", "nv42")
_BT601 = np.array([[1.164, 0.0, 1.596], [1.164, -0.391, -0.813], [1.164, 2.018, 0.0]], np.float32)
_BT601 = np.hstack([_BT601, -_BT601 @ np.array([[16.0], [128.0], [128.0]], np.float32)])
# The type of a depth, and its unit in metres.
_DEPTHS: dict[str, tuple[str, float]] = {
    "32FC1": ("f4", 1.0),
    "64FC1": ("f8", 1.0),
    "16UC1": ("u2", 0.001),
    "16SC1": ("i2", 0.001),
    "32SC1": ("i4", 0.001),
    "mono16": ("u2", 0.001),
}


def colour_encodings() -> list[str]:
    """Return the encodings of colour and grey images that need no cv_bridge."""
    return [*_COLOURS, *_PLANES, *_FULL]


def depth_encodings() -> list[str]:
    """Return the encodings of depth that need no cv_bridge."""
    return list(_DEPTHS)


def is_compressed(message: Any) -> bool:
    """Return whether it is a CompressedImage, by its fields: a bag may hold either type, whatever the settings say."""
    return hasattr(message, "format")


def colour(message: Any) -> np.ndarray:
    """Convert an Image or CompressedImage to uint8 (H, W, 3), RGB. 16 bits are scaled to 8.

    Raises:
        ConversionError: an image that cannot be used.
    """
    if is_compressed(message):
        return decoded_colour(message, MOST_PIXELS)
    code: int | None
    if message.encoding in _PLANES:
        pixels, code = _planes(message), _PLANES[message.encoding]
    elif message.encoding in _FULL:
        pixels, code = cv2.transform(_yuv(message), _BT601), None
    elif message.encoding in _COLOURS:
        code, channels, kind = _COLOURS[message.encoding]
        pixels = _pixels(message, kind, channels)
        pixels = _unit_to_bytes(pixels) if pixels.dtype.kind == "f" else pixels
    else:
        return _bridged(message, "rgb8", colour_encodings())
    height, width = pixels.shape[:2]
    try:
        if message.encoding in _PAIRS and width % 2:
            raise cv2.error
        rgb = pixels if code is None else cv2.cvtColor(pixels, code)
    except cv2.error:
        raise ConversionError(
            f"expected a {message.encoding} image of a size that fits its pattern, found {width} × {height}"
        ) from None
    return cv2.convertScaleAbs(rgb, alpha=255 / 65535) if rgb.dtype == np.uint16 else np.asarray(rgb, np.uint8)


def metres(message: Any) -> np.ndarray:
    """Convert a depth Image or CompressedImage to float32 (H, W), metres. Integers are millimetres.

    Raises:
        ConversionError: an image that cannot be used.
    """
    if is_compressed(message):
        return decoded_metres(message, MOST_PIXELS)
    if message.encoding not in _DEPTHS:
        return _bridged(message, "32FC1", depth_encodings())
    kind, unit = _DEPTHS[message.encoding]
    with np.errstate(over="ignore", invalid="ignore"):
        values = _pixels(message, kind, 1).astype(np.float32, copy=False)
    return values if unit == 1.0 else values * np.float32(unit)


def _pixels(message: Any, kind: str, channels: int) -> np.ndarray:
    """Return the pixels of an image: (H, W) of one channel, else (H, W, channels), in this machine's byte order."""
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    height, width, step, data = _rows(message)
    row = width * channels * dtype.itemsize
    if step < row:
        raise ConversionError(
            f"expected a step of at least {row} for {width} pixels of {message.encoding}, found {step}"
        )
    pixels = data.reshape(height, step)[:, :row].view(dtype)
    pixels = pixels if channels == 1 else pixels.reshape(height, width, channels)
    return np.ascontiguousarray(pixels, dtype.newbyteorder("="))


def _planes(message: Any) -> np.ndarray:
    """Return both planes as one image, (3 H / 2, W)."""
    height, width, step = _size(message)
    data = np.frombuffer(message.data, np.uint8)
    rows = height + height // 2
    if message.encoding in _TWO_PLANES and step != width:
        # Rows of the colour planes are half as long, so that their padding would be unknown.
        raise ConversionError(f"expected a step of {width} for {width} pixels of {message.encoding}, found {step}")
    if data.size == height * step and height % 3 == 0:
        # Some drivers count the rows of both planes as the height.
        rows = height
    if step < width or data.size < rows * step:
        raise ConversionError(
            f"expected {rows} rows of at least {width} bytes for {width} × {height} pixels of {message.encoding}, "
            f"found {data.size} bytes in rows of {step}"
        )
    return np.ascontiguousarray(data[: rows * step].reshape(rows, step)[:, :width])


def _yuv(message: Any) -> np.ndarray:
    """Return brightness and both colour differences of each pixel, (H, W, 3)."""
    if message.encoding == "yuv444":
        return _pixels(message, "u1", 3)
    height, width, step = _size(message)
    data = np.frombuffer(message.data, np.uint8)
    if step < width or data.size < 3 * height * step:
        raise ConversionError(
            f"expected {height} rows of at least {width} bytes and as many of {2 * width} for {width} × {height} "
            f"pixels of {message.encoding}, found {data.size} bytes in rows of {step}"
        )
    brightness = data[: height * step].reshape(height, step)[:, :width]
    pairs = data[height * step : 3 * height * step].reshape(height, 2 * step)[:, : 2 * width]
    pairs = pairs.reshape(height, width, 2)
    return np.dstack([brightness, pairs if message.encoding == "nv24" else pairs[..., ::-1]])


def _unit_to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Return pixels of 0 to 1, or of 0 to 255, as uint8.

    Raises:
        ConversionError: other pixels.
    """
    least, most = float(pixels.min()), float(pixels.max())
    if not (least >= 0.0 and most <= 255.0):
        raise ConversionError(f"expected pixels of 0 to 1 or 0 to 255, found {least:g} to {most:g}")
    return np.rint(pixels * 255.0 if most <= 1.0 else pixels).astype(np.uint8)


def _size(message: Any) -> tuple[int, int, int]:
    height, width, step = index(message.height), index(message.width), index(message.step)
    if height <= 0 or width <= 0 or height * width > MOST_PIXELS:
        raise ConversionError(f"expected an image of 1 to {MOST_PIXELS} pixels, found {width} × {height}")
    return height, width, step


def _rows(message: Any) -> tuple[int, int, int, np.ndarray]:
    """Return height, width, step, and a view of `height` times `step` bytes, all of them checked."""
    height, width, step = _size(message)
    data = np.frombuffer(message.data, np.uint8)
    if not 0 <= step * height <= data.size:
        raise ConversionError(f"expected {step * height} bytes for {height} rows of {step}, found {data.size}")
    return height, width, step, data[: step * height]


def _bridged(message: Any, encoding: str, known: list[str]) -> np.ndarray:
    found = f"expected encoding {', '.join(known)}, found {str(message.encoding)[:40]!r}"
    bridge = _bridge()
    if bridge is None:
        raise ConversionError(f"{found}, which needs cv_bridge, and that is not installed or does not load")
    _rows(message)
    try:
        return np.asarray(bridge.imgmsg_to_cv2(message, desired_encoding=encoding))
    except Exception as error:  # its own errors and OpenCV's have no base class in common
        raise ConversionError(f"{found}, which cv_bridge cannot convert ({error})") from None


@cache
def _bridge() -> Any:
    """Return a CvBridge; None if it is missing or broken. Tried once: a broken one takes long to fail."""
    try:
        from cv_bridge import CvBridge

        return CvBridge()
    except Exception:  # built for another NumPy it raises errors of any kind
        return None

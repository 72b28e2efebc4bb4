"""ROS messages to arrays and back.

Messages are read by their fields, so messages of rclpy and messages of a bag are treated alike. No field is trusted:
sizes are checked before memory is allocated, and any fault of a message is raised as a `ConversionError`.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import Any

import cv2
import numpy as np

from smvae_core.errors import SMVAEError
from smvae_core.modality import ModalityError
from smvae_ros.conversions.bindings import COMPRESSED, TWIST, VECTOR, WRENCH, Binding
from smvae_ros.conversions.compressed import CompressedImageError, decoded_colour, decoded_metres
from smvae_ros.synchronizer.set_synchronizer import SampleSet

MOST_PIXELS = 64 * 1024 * 1024
"""Larger images are refused."""

_COLOURS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
}
_DEPTHS: dict[str, str] = {"32FC1": "f4", "16UC1": "u2"}
# The errors of reading fields from a message of another type.
_FOREIGN = (AttributeError, TypeError, ValueError, OverflowError, BufferError)


class ConversionError(SMVAEError):
    """A message that cannot be used; the error says what was expected and what was found."""


def set_arrays(bindings: Iterable[Binding], sample_set: SampleSet) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays of a set's messages, ready for the engine, and the reasons why others are missing.

    Returns:
        By modality, float32 (*shape) in model units; and by rejected modality, why its messages cannot be used.
    """
    arrays, rejected = {}, {}
    for binding in bindings:
        name = binding.modality.name
        samples = sample_set.samples.get(name)
        if samples is not None:
            try:
                raw = raw_array(binding, [sample.data for sample in samples])
                arrays[name] = binding.modality.to_model(raw)
            except (ConversionError, ModalityError) as error:
                rejected[name] = str(error)
    return arrays, rejected


def raw_array(binding: Binding, messages: Sequence[Any]) -> np.ndarray:
    """Convert a modality's messages in one set, oldest first, to the array that `Modality.to_model` takes.

    Returns:
        rgb: uint8 (H, W, 3), RGB. grey: uint8 (H, W). depth: float32 (H, W), metres. force: float32 (T, C), a row for
        each message. vector: float32 (C,), of the newest message. A WrenchStamped gives fx fy fz tx ty tz in N and
        N·m; a TwistStamped gives linear x y z and angular z, or linear x y z and angular x y z if C is 6.

    Raises:
        ConversionError: a message that cannot be used.
    """
    name, kind = binding.modality.name, binding.modality.preprocessing.kind
    try:
        if kind == "rgb":
            return _colour(messages[-1])
        if kind == "grey":
            return cv2.cvtColor(_colour(messages[-1]), cv2.COLOR_RGB2GRAY)
        if kind == "depth":
            return _metres(messages[-1])
        if kind == "force":
            return _finite([_numbers(binding, message) for message in messages])
        return _finite(_numbers(binding, messages[-1]))
    except (ConversionError, CompressedImageError) as error:
        raise ConversionError(f"{name}: {error}") from None
    except _FOREIGN as error:
        compressed = binding.modality.is_image and _is_compressed(messages[-1])
        expected = (COMPRESSED if compressed else binding.type).split("/")[-1]
        raise ConversionError(f"{name}: expected a whole {expected}, found one with {str(error)[:100]}") from None


def fill(binding: Binding, message: Any, physical: np.ndarray) -> None:
    """Write a prediction, as `Modality.to_physical` returns it, into a message of the type `binding.predicted`.

    Of a force/torque window, the newest sample is written.
    """
    kind = binding.modality.preprocessing.kind
    if binding.modality.is_image:
        fill_image(message, physical)
        return
    row = physical[-1] if kind == "force" else physical
    if binding.type == WRENCH:
        fill_wrench(message, row)
    elif binding.type == TWIST:
        fill_twist(message, row)
    else:
        setattr(message, "values" if binding.type == VECTOR else binding.field, array("d", row.astype(np.float64)))


def stamp_ns(message: Any) -> int:
    """Return the stamp in a message's header, in nanoseconds; 0 if it has none.

    Raises:
        ConversionError: a message without a header.
    """
    try:
        stamp = message.header.stamp
        return index(stamp.sec) * 1_000_000_000 + index(stamp.nanosec)
    except _FOREIGN as error:
        raise ConversionError(f"expected a message with a header, found one with {str(error)[:100]}") from None


def fill_image(message: Any, image: np.ndarray) -> None:
    """Write uint8 (H, W, 3) into an Image as rgb8, or float32 (H, W) as 32FC1."""
    image = np.ascontiguousarray(image)
    message.height, message.width = image.shape[:2]
    message.encoding = "rgb8" if image.dtype == np.uint8 else "32FC1"
    message.is_bigendian = int(sys.byteorder == "big")
    message.step = image.strides[0]
    # rclpy takes an array of bytes as it is, but checks every element of bytes or of a NumPy array.
    data = array("B")
    data.frombytes(image.view(np.uint8).data)
    message.data = data


def fill_wrench(message: Any, row: np.ndarray) -> None:
    """Write (6,), fx fy fz tx ty tz in N and N·m, into a WrenchStamped."""
    force, torque = message.wrench.force, message.wrench.torque
    force.x, force.y, force.z, torque.x, torque.y, torque.z = map(float, row)


def fill_twist(message: Any, row: np.ndarray) -> None:
    """Write (4,), linear x y z and angular z, or (6,), linear and angular x y z, into a TwistStamped."""
    linear, angular = message.twist.linear, message.twist.angular
    linear.x, linear.y, linear.z = map(float, row[:3])
    if len(row) == 6:
        angular.x, angular.y = map(float, row[3:5])
    angular.z = float(row[-1])


def _numbers(binding: Binding, message: Any) -> Sequence[Any]:
    """Return the numbers in a message, as many as the modality has."""
    count = binding.modality.shape[0]
    if binding.type == WRENCH:
        force, torque = message.wrench.force, message.wrench.torque
        return (force.x, force.y, force.z, torque.x, torque.y, torque.z)
    if binding.type == TWIST:
        linear, angular = message.twist.linear, message.twist.angular
        turn = (angular.x, angular.y, angular.z) if count == 6 else (angular.z,)
        return (linear.x, linear.y, linear.z, *turn)
    field = "values" if binding.type == VECTOR else binding.field
    numbers: Sequence[Any] = getattr(message, field)
    if len(numbers) != count:
        raise ConversionError(f"expected {count} numbers in {field}, found {len(numbers)}")
    return numbers


def _is_compressed(message: Any) -> bool:
    """Return whether it is a CompressedImage, by its fields: a bag may hold either type, whatever the settings say."""
    return hasattr(message, "format")


def _colour(message: Any) -> np.ndarray:
    if _is_compressed(message):
        return decoded_colour(message, MOST_PIXELS)
    if message.encoding not in _COLOURS:
        return _bridged(message, "rgb8", _COLOURS)
    channels, code = _COLOURS[message.encoding]
    pixels = _pixels(message, np.dtype(np.uint8), channels)
    return pixels if code is None else cv2.cvtColor(pixels, code)


def _metres(message: Any) -> np.ndarray:
    if _is_compressed(message):
        return decoded_metres(message, MOST_PIXELS)
    if message.encoding not in _DEPTHS:
        return _bridged(message, "32FC1", _DEPTHS)
    order = ">" if message.is_bigendian else "<"
    pixels = _pixels(message, np.dtype(order + _DEPTHS[message.encoding]), 1)[..., 0]
    metres = pixels.astype(np.float32)
    return metres * np.float32(0.001) if message.encoding == "16UC1" else metres


def _pixels(message: Any, dtype: np.dtype, channels: int) -> np.ndarray:
    """Return the pixels (H, W, channels) of an image, as a view."""
    height, width, step, data = _rows(message)
    row = width * channels * dtype.itemsize
    if step < row:
        raise ConversionError(
            f"expected a step of at least {row} for {width} pixels of {message.encoding}, found {step}"
        )
    rows = data.reshape(height, step)[:, :row]
    return rows.view(dtype).reshape(height, width, channels)


def _rows(message: Any) -> tuple[int, int, int, np.ndarray]:
    """Return height, width, step, and a view of `height` times `step` bytes, all of them checked."""
    height, width, step = index(message.height), index(message.width), index(message.step)
    if height <= 0 or width <= 0 or height * width > MOST_PIXELS:
        raise ConversionError(f"expected an image of 1 to {MOST_PIXELS} pixels, found {width} × {height}")
    data = np.frombuffer(message.data, np.uint8)
    if not 0 <= step * height <= data.size:
        raise ConversionError(f"expected {step * height} bytes for {height} rows of {step}, found {data.size}")
    return height, width, step, data[: step * height]


def _bridged(message: Any, encoding: str, known: Mapping[str, Any]) -> np.ndarray:
    found = f"expected one of {', '.join(known)}, found encoding {str(message.encoding)[:40]!r}"
    try:
        from cv_bridge import CvBridge
    except (ImportError, AttributeError):
        raise ConversionError(f"{found}, which needs cv_bridge, and that is not installed or does not load") from None
    _rows(message)
    try:
        return np.asarray(CvBridge().imgmsg_to_cv2(message, desired_encoding=encoding))
    except Exception as error:  # its own errors and OpenCV's have no base class in common
        raise ConversionError(f"{found}, which cv_bridge cannot convert ({error})") from None


def _finite(values: Sequence[Any]) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = np.array(values, np.float64).astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ConversionError(f"expected finite numbers, found {numbers[~np.isfinite(numbers)][0]}")
    return numbers

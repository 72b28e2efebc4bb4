"""ROS messages to arrays and back.

Messages are read by their fields, so messages of rclpy and messages of a bag are treated alike. No field is trusted:
sizes are checked before memory is allocated, and any fault of a message is raised as a `ConversionError`.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from operator import index
from typing import Any, NamedTuple

import cv2
import numpy as np

from smvae_core.modality import ModalityError
from smvae_ros.conversions.bindings import COMPRESSED, JOINTS, TWIST, VECTOR, WRENCH, Binding
from smvae_ros.conversions.compressed import size_of_picture
from smvae_ros.conversions.errors import ConversionError
from smvae_ros.conversions.images import CompressedFields, ImageFields, colour, is_compressed, metres
from smvae_ros.synchronizer.set_synchronizer import SampleSet

# The errors of reading fields from a message of another type.
_FOREIGN = (AttributeError, TypeError, ValueError, OverflowError, BufferError)


class MissingJoints(ConversionError):
    """A JointState that lacks some of the joints; `joints` names them."""

    def __init__(self, joints: Sequence[str], found: Sequence[str]) -> None:
        super().__init__(f"expected joints {', '.join(joints)}, found {', '.join(found) or 'no names'}")
        self.joints = tuple(joints)


class Numbers(NamedTuple):
    """A sample whose numbers have been read and checked: as many as its modality has.

    Attributes:
        row: the numbers, of joints in the order of the modality.
        message: that brought them, or the last of them, serialised.
    """

    row: Sequence[float]
    message: bytes | memoryview


def set_arrays(
    bindings: Iterable[Binding], sample_set: SampleSet, *, check: bool = True
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays of a set's messages, ready for the engine, and the reasons why others are missing.

    Args:
        check: whether messages that carry too little information (`Modality.min_valid`) are rejected, too. The engine
            leaves these out by itself.

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
                array = binding.modality.to_model(raw)
                if check and (reason := reason_against(binding, array, raw)):
                    rejected[name] = reason
                else:
                    arrays[name] = array
            except (ConversionError, ModalityError) as error:
                rejected[name] = str(error)
    return arrays, rejected


def reasons_against(
    bindings: Iterable[Binding],
    arrays: Mapping[str, np.ndarray],
    used: Collection[str],
    sample_set: SampleSet | None = None,
) -> dict[str, str]:
    """Return by modality that the engine did not use why its array carries too little information.

    Args:
        sample_set: of the arrays; its messages tell more of the reasons.
    """
    reasons = {}
    for binding in bindings:
        name = binding.modality.name
        if name in arrays and name not in used and not binding.modality.is_valid(arrays[name]):
            # Of depth alone the messages tell more, and reading them once more is slow.
            raw = None
            if sample_set is not None and binding.modality.preprocessing.kind == "depth":
                raw = raw_array(binding, [sample.data for sample in sample_set.samples[name]])
            reasons[name] = reason_against(binding, arrays[name], raw)
    return reasons


def reason_against(binding: Binding, array: np.ndarray, raw: np.ndarray | None) -> str:
    """Return why an array in model units carries too little information; "" if it does not."""
    modality = binding.modality
    try:
        modality.check_valid(array)
    except ModalityError as error:
        if modality.preprocessing.kind != "depth" or raw is None:
            return str(error)
        beyond = raw[(raw >= modality.preprocessing.max_depth) & (raw < np.inf)]
        if beyond.size < modality.least_valid * raw.size:
            return str(error)
        return (
            f"{modality.name}: expected depth of 0 to {modality.preprocessing.max_depth:g} m, found readings of "
            f"{np.median(beyond):.3g} m: the camera looks farther than the one that the model was trained with, or "
            "sends another unit"
        )
    return ""


def frame_ids(bindings: Iterable[Binding], sample_set: SampleSet) -> dict[str, str]:
    """Return by modality of a set the frame of its newest message; messages that are no whole ones are left out."""
    frames = {}
    for binding in bindings:
        samples = sample_set.samples.get(binding.modality.name)
        if samples is not None:
            with suppress(ConversionError):
                frames[binding.modality.name] = frame_id(binding, samples[-1].data)
    return frames


def image_size(binding: Binding, sample: Any) -> tuple[int, int]:
    """Return width and height of a sample's image, without decoding it.

    Raises:
        ConversionError: the bytes are no whole message, or a compressed picture whose size only decoding would tell.
    """
    values = binding.values(sample)
    if binding.type == COMPRESSED:
        return size_of_picture(values[1])
    height, width = values[:2]
    return width, height


def frame_id(binding: Binding, sample: Any) -> str:
    """Return the frame of a sample's message; "" without header.

    Raises:
        ConversionError: the bytes are no whole message.
    """
    message = sample.message if isinstance(sample, Numbers) else sample
    if isinstance(message, bytes | memoryview):
        return binding.frame_id(message)
    return str(message.header.frame_id) if hasattr(message, "header") else ""


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
    newest = messages[-1]
    try:
        if kind == "force":
            return _finite([numbers(binding, message) for message in messages])
        if not binding.modality.is_image:
            return _finite(numbers(binding, newest))
        image = image_fields(binding, newest)
        if binding.modality.preprocessing.kind == "depth":
            return _plausible(metres(image), binding.modality.preprocessing.max_depth)
        return colour(image) if kind == "rgb" else cv2.cvtColor(colour(image), cv2.COLOR_RGB2GRAY)
    except ConversionError as error:
        raise ConversionError(f"{name}: {error}") from None
    except _FOREIGN as error:
        compressed = binding.modality.is_image and is_compressed(newest)
        expected = (COMPRESSED if compressed else binding.type).split("/")[-1]
        raise ConversionError(f"{name}: expected a whole {expected}, found one with {str(error)[:100]}") from None


def image_fields(binding: Binding, message: Any) -> Any:
    """Return the fields of an image as attributes, of a serialised message or of an object.

    Raises:
        ConversionError: the bytes are no whole message.
    """
    if not isinstance(message, bytes | memoryview):
        return message
    values = binding.values(message)
    return CompressedFields(*values) if binding.type == COMPRESSED else ImageFields(*values)


def numbers(binding: Binding, message: Any) -> Sequence[Any]:
    """Return the numbers in a message, as many as the modality has.

    Raises:
        ConversionError: the bytes are no whole message, it has another number of numbers, or it lacks a joint.
    """
    if isinstance(message, Numbers):
        return message.row
    values = binding.values(message)
    if binding.is_plain and isinstance(message, bytes | memoryview):
        return values
    if binding.type == JOINTS and not binding.fields:
        return _joints(binding, *values)
    # Python's numbers, since the difference of two uint8 of NumPy overflows.
    values = tuple(value.tolist() if isinstance(value, np.ndarray) else value for value in values)
    if len(values) == 1 and not isinstance(values[0], str):
        values = values[0] if hasattr(values[0], "__len__") else values
    elif any(hasattr(value, "__len__") for value in values):
        values = tuple(number for value in values for number in (value if hasattr(value, "__len__") else (value,)))
    return _counted(values, binding.modality.shape[0], ", ".join(binding.paths))


def _joints(binding: Binding, names: Sequence[str], state: Sequence[Any]) -> Sequence[Any]:
    """Return the numbers of the binding's joints in its order, or all numbers in their own if it names no joints."""
    if not binding.joints:
        return _counted(state, binding.modality.shape[0], binding.field, names)
    _counted(state, len(names), f"{binding.field}, one for each name")
    places = {name: place for place, name in enumerate(names)}
    missing = [joint for joint in binding.joints if joint not in places]
    if missing:
        raise MissingJoints(missing, names)
    return [state[places[joint]] for joint in binding.joints]


def _counted(found: Sequence[Any], count: int, where: str, names: Sequence[str] = ()) -> Sequence[Any]:
    if len(found) != count:
        of = f" of {', '.join(names)}" if len(names) else ""
        raise ConversionError(f"expected {count} numbers in {where}, found {len(found)}{of}")
    return found


def fill(binding: Binding, message: Any, physical: np.ndarray) -> None:
    """Write a prediction, as `Modality.to_physical` returns it, into a message of the type `binding.predicted`.

    Of a force/torque window, the newest sample is written.
    """
    if binding.modality.is_image:
        fill_image(message, physical)
        return
    row = physical[-1] if binding.modality.preprocessing.kind == "force" else physical
    kind = binding.predicted
    if kind == WRENCH:
        fill_wrench(message, row)
    elif kind == TWIST:
        fill_twist(message, row)
    else:
        setattr(message, "values" if kind == VECTOR else binding.field, array("d", row.astype(np.float64)))
        if kind == JOINTS:
            message.name = list(binding.joints)


def stamp_ns(message: Any) -> int:
    """Return the stamp in the header of a message object, in nanoseconds; 0 if it has no header.

    Raises:
        ConversionError: a header without a stamp.
    """
    try:
        if not hasattr(message, "header"):
            return 0
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


def _plausible(depth: np.ndarray, most: float) -> np.ndarray:
    """Return the depth unchanged.

    Raises:
        ConversionError: it is in millimetres.
    """
    readings = depth[:: max(1, len(depth) // 32), :: max(1, depth.shape[1] // 32)]
    readings = readings[(readings > 0) & (readings < np.inf)]
    # A robot whose depth ends at `most` metres does not look at things a hundred times as far away.
    if 2 * np.count_nonzero(readings > 100 * most) > readings.size:
        median = np.median(readings)
        raise ConversionError(
            f"expected depth in metres, at most about {most:g}, found a median of {median:.0f}, as of millimetres; "
            "publish it as 16UC1, or divide it by 1000"
        )
    return depth


def _finite(values: Sequence[Any]) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = np.array(values, np.float64).astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ConversionError(f"expected finite numbers, found {numbers[~np.isfinite(numbers)][0]}")
    return numbers

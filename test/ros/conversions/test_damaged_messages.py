"""Serialised messages with flipped bits, missing ends and foreign parts, on the way from the wire to the model.

A damaged message is either refused with one sentence, or read as numbers that a sensor could have sent.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped, WrenchStamped
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage, Image, JointState, PointCloud2, PointField
from smvae_ros.msg import VectorStamped

from smvae_core.modality import Modality
from smvae_core.preprocessing import RGB, Depth
from smvae_ros.conversions.arrays import fill_image, frame_ids, reasons_against, set_arrays
from smvae_ros.conversions.bindings import COMPRESSED, IMAGE, JOINTS, TWIST, VECTOR, WRENCH, bind
from smvae_ros.conversions.errors import ConversionError
from smvae_ros.conversions.message_definitions import installed_types
from smvae_ros.conversions.sample_reader import SampleReader
from smvae_ros.node.message_sources import MessageSources
from smvae_ros.synchronizer.sample_set import Sample, SampleSet

from .test_bindings import picture, vector, window

_ROS = get_typestore(Stores.ROS2_JAZZY)
_PIXELS = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
_DEPTH = _PIXELS[..., 0].astype(np.float32) / 100 + 0.3
_CLOUD = "sensor_msgs/msg/PointCloud2"


def _image(pixels: np.ndarray) -> Image:
    message = Image()
    fill_image(message, pixels)
    return message


def _compressed(kind: str, encoded: str, pixels: np.ndarray, before: bytes = b"") -> CompressedImage:
    return CompressedImage(format=encoded, data=before + cv2.imencode(kind, pixels)[1].tobytes())


def _kinds() -> dict[str, tuple[Modality, str, tuple[str, ...], Any]]:
    millimetres = (_DEPTH * 1000).astype(np.uint16)
    header = struct.pack("<iff", 0, 10100.0, -1009.0)
    return {
        "image": (picture(RGB()), IMAGE, (), _image(_PIXELS)),
        "depth": (picture(Depth()), IMAGE, (), _image(_DEPTH)),
        "jpeg": (picture(RGB()), COMPRESSED, (), _compressed(".jpg", "rgb8; jpeg compressed bgr8", _PIXELS)),
        "png": (picture(RGB()), COMPRESSED, (), _compressed(".png", "png", _PIXELS)),
        "compressed depth": (
            picture(Depth()),
            COMPRESSED,
            (),
            _compressed(".png", "16UC1; compressedDepth png", millimetres, header),
        ),
        "rvl": (
            picture(Depth()),
            COMPRESSED,
            (),
            CompressedImage(
                format="16UC1; compressedDepth rvl", data=header + struct.pack("<ii", 16, 12) + bytes(range(1, 200))
            ),
        ),
        "wrench": (window(6), WRENCH, (), WrenchStamped()),
        "twist": (vector(4), TWIST, (), TwistStamped()),
        "joints": (vector(3), JOINTS, (), JointState(name=list("abc"), position=[0.1, 0.2, 0.3], velocity=[1.0] * 3)),
        "vector": (vector(5), VECTOR, (), VectorStamped(values=[0.5] * 5)),
        "fields": (
            vector(2),
            _CLOUD,
            ("fields[-1].offset", "fields[0].count"),
            PointCloud2(fields=[PointField(name=name, offset=4, count=1) for name in "xyz"]),
        ),
    }


KINDS = list(_kinds())


@cache
def good(kind: str) -> tuple[Any, bytes]:
    """The binding of a kind, and a whole message."""
    modality, message, fields, sample = _kinds()[kind]
    sample.header.stamp.sec, sample.header.frame_id = 1_700_000_000, "sensor"
    (binding,) = bind([modality], {modality.name: message}, {modality.name: fields})
    types = installed_types({message}) if message == VECTOR else _ROS
    return binding.reading(types), serialize_message(sample)


def taken(kind: str, data: bytes) -> dict[str, str]:
    """Take a message as the node does; return the reasons why it cannot be used."""
    binding, _ = good(kind)
    name, reader = binding.modality.name, SampleReader(binding)
    sources = MessageSources(has_header=binding.has_header, one_size=binding.type == IMAGE)
    try:
        stamp_ns, sample = reader.read(data)
        sources.see(1, data)
    except ConversionError as error:
        return {name: str(error)}
    bindings = (reader.binding,)
    samples = SampleSet(1, 0, {name: (Sample(stamp_ns, sample),)}, "complete", 0, 0)
    arrays, rejected = set_arrays(bindings, samples, check=False)
    assert set(arrays) | set(rejected) == {name}
    for array in arrays.values():
        assert array.shape == binding.modality.shape and array.dtype == np.float32
        assert np.isfinite(array).all()
    assert all(isinstance(frame, str) for frame in frame_ids(bindings, samples).values())
    return rejected | reasons_against(bindings, arrays, ())


def damaged(data: bytes, places: list[tuple[int, int]], cut: int | None, foreign: bytes) -> bytes:
    """Return bytes with flipped bits, without their end, or with a foreign part in the middle."""
    found = bytearray(data)
    for place, bits in places:
        # Most of what can go wrong stands near the beginning: lengths, sizes, encodings.
        found[place % (len(found) if place % 2 else min(len(found), 120))] ^= bits
    if cut is not None:
        del found[cut % (len(found) + 1) :]
    middle = len(found) // 2
    found[middle:middle] = foreign
    return bytes(found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_message_is_read(kind: str) -> None:
    if kind != "rvl":
        assert not any("expected a" in reason for reason in taken(kind, good(kind)[1]).values())


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(
    places=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=4),
    cut=st.none() | st.integers(0, 10_000),
    foreign=st.binary(max_size=9),
)
def test_a_damaged_message_is_refused_or_read_as_finite_numbers(
    kind: str, places: list[tuple[int, int]], cut: int | None, foreign: bytes
) -> None:
    for reason in taken(kind, damaged(good(kind)[1], places, cut, foreign)).values():
        assert "\n" not in reason and len(reason) < 500


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_no_length_is_believed_beyond_the_bytes_that_are_there(kind: str, value: int) -> None:
    _, data = good(kind)
    for at in range(4, min(len(data) - 4, 120), 4):
        taken(kind, data[:at] + struct.pack("<I", value) + data[at + 4 :])

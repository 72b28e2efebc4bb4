"""Fields of serialised messages: equal to those of the message objects, and MalformedMessage for all other bytes."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Twist, WrenchStamped
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from sensor_msgs.msg import JointState

from smvae_core.errors import ConfigurationError
from smvae_ros.conversions.accessors import MessageAccessor
from smvae_ros.conversions.cdr import MalformedMessage, MissingElement
from smvae_ros.conversions.message_definitions import installed_types

TYPES = get_typestore(Stores.ROS2_JAZZY)
# Every alignment after every kind of field of variable length.
TYPES.register(get_types_from_msg("string[2] names\nuint8 small\nfloat64 large\nbool[] flags\n", "made_up/msg/Inner"))
TYPES.register(
    get_types_from_msg(
        "uint8 first\nmade_up/Inner[2] pair\nint16[] shorts\nint64 long\nfloat32[3] three\nmade_up/Inner[] some\n"
        "string text\nuint16 after_text\ngeometry_msgs/Vector3[] vectors\nchar letter\nfloat64[1] one\nstring[] texts\n"
        "std_msgs/Header header\nint8[<=4] bounded\nuint64 last\n",
        "made_up/msg/Awkward",
    )
)
KINDS = [
    "made_up/msg/Awkward", "geometry_msgs/msg/Twist", "geometry_msgs/msg/WrenchStamped", "sensor_msgs/msg/Imu",
    "sensor_msgs/msg/JointState", "nav_msgs/msg/Odometry", "std_msgs/msg/Float64MultiArray", "std_msgs/msg/Empty",
    "trajectory_msgs/msg/JointTrajectory", "diagnostic_msgs/msg/DiagnosticArray", "sensor_msgs/msg/CameraInfo",
    "sensor_msgs/msg/PointCloud2", "tf2_msgs/msg/TFMessage", "sensor_msgs/msg/BatteryState", "sensor_msgs/msg/Image",
]  # fmt: skip
RANGES = {"int8": (-128, 127), "uint8": (0, 255), "byte": (0, 127), "char": (0, 255), "int16": (-(2**15), 2**15 - 1)}
RANGES |= {"uint16": (0, 2**16 - 1), "int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1)}
RANGES |= {"int64": (-(2**63), 2**63 - 1), "uint64": (0, 2**64 - 1), "bool": (0, 1)}


def number(draw: st.DrawFn, name: str) -> Any:
    if name == "string":
        return draw(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=6))
    if name.startswith("float"):
        return draw(st.floats(width=int(name[5:]), allow_nan=False))
    return draw(st.integers(*RANGES[name]))


def made(draw: st.DrawFn, message_type: str) -> Any:
    """A random message object of rosbags."""
    values = {}
    for name, (node, detail) in TYPES.fielddefs[message_type][1]:
        if node == Nodetype.BASE:
            values[name] = number(draw, detail[0])
        elif node == Nodetype.NAME:
            values[name] = made(draw, detail)
        else:
            (inner, what), length = detail
            count = length if node == Nodetype.ARRAY else draw(st.integers(0, min(length, 3) or 3))
            if inner == Nodetype.NAME:
                values[name] = [made(draw, what) for _ in range(count)]
            elif what[0] == "string":
                values[name] = [number(draw, "string") for _ in range(count)]
            else:
                dtype = {"bool": "bool", "char": "uint8", "byte": "uint8"}.get(what[0], what[0])
                values[name] = np.array([number(draw, what[0]) for _ in range(count)], dtype)
    return TYPES.types[message_type](**values)


def leaves(message: Any, message_type: str, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every path in a message, with its value; of arrays also their first and last element."""
    for name, (node, detail) in TYPES.fielddefs[message_type][1]:
        value, here = getattr(message, name), f"{path}{name}"
        if node == Nodetype.NAME:
            yield from leaves(value, detail, f"{here}.")
        elif node == Nodetype.BASE:
            yield here, value
        elif detail[0][0] == Nodetype.NAME:
            for index in {0, -1} if len(value) else ():
                yield from leaves(value[index], detail[0][1], f"{here}[{index}].")
        else:
            yield here, value
            for index in {0, len(value) - 1, -1} if len(value) else ():
                yield f"{here}[{index}]", value[index]


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, Any, bytes]:
    message_type = draw(st.sampled_from(KINDS))
    message = made(draw, message_type)
    return message_type, message, bytes(TYPES.serialize_cdr(message, message_type, little_endian=draw(st.booleans())))


@settings(max_examples=200, deadline=None)
@given(messages(), st.randoms(use_true_random=False), st.booleans())
def test_every_field_of_every_message_is_read_as_it_was_written(case: Any, random: Any, as_view: bool) -> None:
    message_type, message, data = case
    expected = list(leaves(message, message_type))
    random.shuffle(expected)
    expected = expected[: random.randint(0, len(expected))]
    accessor = MessageAccessor(TYPES, message_type, [path for path, _ in expected])
    found = accessor.read(memoryview(data) if as_view else data)
    assert len(found) == len(expected)
    for (path, value), read, kind in zip(expected, found, accessor.kinds):
        if kind in ("number", "numbers"):
            assert np.array_equal(np.asarray(read), np.asarray(value)), path
        else:
            assert read == value, path


@settings(max_examples=200, deadline=None)
@given(messages(), st.data())
def test_a_message_that_is_cut_off_is_malformed(case: Any, data: st.DataObject) -> None:
    message_type, _, whole = case
    accessor = MessageAccessor(TYPES, message_type, [])
    with pytest.raises(MalformedMessage):
        accessor.read(whole[: data.draw(st.integers(0, len(whole) - 1))])


@settings(max_examples=300, deadline=None)
@given(messages(), st.data())
def test_changed_bytes_raise_nothing_but_malformed(case: Any, data: st.DataObject) -> None:
    message_type, message, whole = case
    accessor = MessageAccessor(TYPES, message_type, [path for path, _ in leaves(message, message_type)])
    changed = bytearray(whole)
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=8)):
        changed[at] = data.draw(st.sampled_from([0, 1, 127, 128, 255]))
    for read in (accessor.read, accessor.stamp_ns, accessor.frame_id):
        try:
            read(bytes(changed))
        except (MalformedMessage, MissingElement) as error:
            assert "\n" not in str(error) and len(str(error)) < 300


@given(st.binary(max_size=60), st.sampled_from(KINDS))
def test_foreign_bytes_raise_nothing_but_malformed(data: bytes, message_type: str) -> None:
    accessor = MessageAccessor(TYPES, message_type, [])
    for read in (accessor.read, accessor.stamp_ns, accessor.frame_id):
        try:
            read(data)
        except MalformedMessage:
            continue


def test_bytes_of_rclpy_are_read_by_the_installed_definitions() -> None:
    types = installed_types(
        ["geometry_msgs/msg/WrenchStamped", "sensor_msgs/msg/JointState", "geometry_msgs/msg/Twist"]
    )
    wrench = WrenchStamped()
    wrench.header.stamp.sec, wrench.header.stamp.nanosec, wrench.header.frame_id = 7, 8, "tool0"
    wrench.wrench.torque.z = 2.5
    accessor = MessageAccessor(types, "geometry_msgs/msg/WrenchStamped", ["wrench.torque.z", "wrench.force.x"])
    data = serialize_message(wrench)
    assert (accessor.stamp_ns(data), accessor.frame_id(data), accessor.read(data)) == (7_000_000_008, "tool0", (2.5, 0))
    joints = JointState(name=["elbow", "wrist"], position=[1.0, 2.0], effort=[3.0, 4.0])
    accessor = MessageAccessor(types, "sensor_msgs/msg/JointState", ["name", "effort", "position[-1]", "velocity"])
    names, efforts, last, velocities = accessor.read(serialize_message(joints))
    assert (names, efforts.tolist(), last, velocities.tolist()) == (["elbow", "wrist"], [3, 4], 2, [])
    accessor = MessageAccessor(types, "geometry_msgs/msg/Twist", ["linear.x"])
    assert not accessor.has_header
    data = serialize_message(Twist())
    assert (accessor.stamp_ns(data), accessor.frame_id(data), accessor.read(data)) == (0, "", (0,))


def test_pixels_are_a_view_of_the_message() -> None:
    accessor = MessageAccessor(TYPES, "std_msgs/msg/UInt8MultiArray", ["data"])
    layout = TYPES.types["std_msgs/msg/MultiArrayLayout"]([], 0)
    message = TYPES.types["std_msgs/msg/UInt8MultiArray"](layout, np.arange(9, dtype=np.uint8))
    data = bytearray(TYPES.serialize_cdr(message, "std_msgs/msg/UInt8MultiArray"))
    (pixels,) = accessor.read(memoryview(data))
    data[-1] = 99
    assert pixels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 99]


def test_an_element_that_is_not_there_is_named() -> None:
    accessor = MessageAccessor(TYPES, "sensor_msgs/msg/JointState", ["position[3]"])
    data = serialize_message(JointState(position=[0.0, 1.0]))
    expected = "expected at least 4 elements in sensor_msgs/msg/JointState.position, found 2"
    with pytest.raises(MissingElement, match=re.escape(expected)):
        accessor.read(data)


@pytest.mark.parametrize(
    ("message_type", "path", "sentence"),
    [
        ("made_up/msg/None", "x", "expected a message type that is described by the bag"),
        ("geometry_msgs/msg/Twist", "linear.w", "expected a field of geometry_msgs/msg/Vector3 (x, y, z), found 'w'"),
        ("geometry_msgs/msg/Twist", "linear", "found 'linear', a geometry_msgs/msg/Vector3; add one of its fields: x"),
        ("geometry_msgs/msg/Twist", "linear.x.y", "expected the path of a number"),
        ("geometry_msgs/msg/Twist", "linear[0]", "expected an index only behind an array, found [0]"),
        ("geometry_msgs/msg/Twist", "linear..x", "expected the path of a field, such as linear.x"),
        ("geometry_msgs/msg/Twist", "", "expected the path of a field, such as linear.x"),
        ("nav_msgs/msg/Odometry", "pose.covariance[36]", "expected an index below 36"),
        ("tf2_msgs/msg/TFMessage", "transforms", "an array of geometry_msgs/msg/TransformStamped; add an index"),
        ("tf2_msgs/msg/TFMessage", "transforms.header", "expected the path of a number"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_with_the_fields_that_exist(
    message_type: str, path: str, sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        MessageAccessor(TYPES, message_type, [path])


def test_a_type_of_no_installed_package_is_named() -> None:
    with pytest.raises(ConfigurationError, match="found 'made_up/msg/None'; install made_up"):
        installed_types(["made_up/msg/None"])

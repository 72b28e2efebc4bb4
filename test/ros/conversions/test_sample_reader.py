"""Streams of serialised messages: any numeric field of any message, joints by name, each message judged by itself."""

import re
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, Twist, WrenchStamped
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import Image, JointState

from smvae_core.errors import ConfigurationError
from smvae_ros.conversions.arrays import fill, raw_array
from smvae_ros.conversions.bindings import IMAGE, JOINTS, VECTOR, WRENCH, bind
from smvae_ros.conversions.errors import ConversionError
from smvae_ros.conversions.message_definitions import installed_types
from smvae_ros.conversions.sample_reader import SampleReader
from smvae_ros.settings import default_settings

from .test_bindings import picture, vector, window

TYPES = get_typestore(Stores.ROS2_JAZZY)
MS = 1_000_000


def reader(modality: Any, message: str, fields: Any = (), joints: Any = (), types: Any = TYPES) -> SampleReader:
    (binding,) = bind([modality], {modality.name: message}, {modality.name: fields}, {modality.name: joints})
    return SampleReader(binding.reading(types))


def numbers(stream: SampleReader, message: Any) -> list[float]:
    _, sample = stream.read(serialize_message(message) if not isinstance(message, bytes) else message)
    return raw_array(stream.binding, [sample]).tolist()


def state(names: str, *positions: float, ms: int = 0, **fields: Any) -> JointState:
    message = JointState(name=list(names), position=list(positions), **fields)
    message.header.stamp.sec, message.header.stamp.nanosec = 5, ms * MS
    return message


def test_fields_of_a_message_without_a_header_are_a_vector_without_a_stamp() -> None:
    stream = reader(vector(2), "geometry_msgs/msg/Twist", ["linear.x", "angular.z"])
    twist = Twist()
    twist.linear.x, twist.angular.z = 1.5, -0.5
    assert stream.read(serialize_message(twist))[0] == 0
    assert numbers(stream, twist) == [1.5, -0.5]
    assert raw_array(stream.binding, [twist]).tolist() == [1.5, -0.5], "a message object gives the same"


def test_fields_of_installed_types_have_the_stamp_of_the_header() -> None:
    kind = "geometry_msgs/msg/PoseStamped"
    stream = reader(
        vector(3), kind, ["pose.position.z", "pose.orientation.w", "pose.position.x"], (), installed_types([kind])
    )
    pose = PoseStamped()
    pose.header.stamp.sec, pose.header.frame_id = 7, "map"
    pose.pose.position.x, pose.pose.position.z = 1.0, 3.0
    data = serialize_message(pose)
    assert stream.read(data)[0] == 7_000_000_000 and stream.binding.frame_id(data) == "map"
    assert numbers(stream, pose) == [3.0, 1.0, 1.0]


@given(st.lists(st.floats(-9, 9, width=32), min_size=4, max_size=4))
def test_arrays_and_elements_of_arrays_are_put_one_behind_the_other(values: list[float]) -> None:
    layout = TYPES.types["std_msgs/msg/MultiArrayLayout"]([], 0)
    message = TYPES.types["std_msgs/msg/Float64MultiArray"](layout, np.array(values))
    data = bytes(TYPES.serialize_cdr(message, "std_msgs/msg/Float64MultiArray"))
    stream = reader(vector(5), "std_msgs/msg/Float64MultiArray", ["data", "data[-1]"])
    assert numbers(stream, data) == [*values, values[3]]
    with pytest.raises(ConversionError, match="expected 4 numbers in data, found 3"):
        numbers(reader(vector(4), "std_msgs/msg/Float64MultiArray", ["data"]), _shorter(values[:3]))


def _shorter(values: list[float]) -> bytes:
    layout = TYPES.types["std_msgs/msg/MultiArrayLayout"]([], 0)
    message = TYPES.types["std_msgs/msg/Float64MultiArray"](layout, np.array(values))
    return bytes(TYPES.serialize_cdr(message, "std_msgs/msg/Float64MultiArray"))


@pytest.mark.parametrize(
    ("message", "fields", "sentence"),
    [
        ("geometry_msgs/msg/Twist", ["linear.x"], "streams.tactile.fields: expected 2 numbers, found 1 (linear.x)"),
        (
            "geometry_msgs/msg/Twist",
            ["linear.x", "linear.w"],
            "streams.tactile: geometry_msgs/msg/Twist: expected a field",
        ),
        ("sensor_msgs/msg/JointState", ["name"], "streams.tactile.fields: expected numbers, found the texts 'name'"),
        ("made_up/msg/Thing", ["x", "y"], "streams.tactile: expected a message type that is described"),
        ("", ["x", "y"], "streams.tactile.message: expected a message type beside fields"),
        ("Twist", ["x", "y"], "streams.tactile.message: expected a message type beside fields"),
    ],
)
def test_fields_that_do_not_fit_are_refused_with_those_that_exist(
    message: str, fields: list[str], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        reader(vector(2), message, fields)


def test_an_image_has_no_fields_to_choose() -> None:
    from smvae_core.preprocessing import RGB

    with pytest.raises(ConfigurationError, match="streams.tactile.fields: expected none for rgb"):
        reader(picture(RGB()), IMAGE, ["data"])


def test_predictions_of_chosen_fields_are_vectors() -> None:
    (binding,) = bind([vector(1)], {"tactile": "geometry_msgs/msg/Twist"}, {"tactile": ["linear.x"]})
    assert binding.predicted == VECTOR


def test_joints_are_taken_by_name_whatever_their_order() -> None:
    stream = reader(vector(2), JOINTS, joints="ca")
    assert numbers(stream, state("abc", 1, 2, 3)) == [3, 1]
    assert numbers(stream, state("cba", 3, 2, 1)) == [3, 1]


def test_without_names_in_the_settings_the_first_message_sets_the_order() -> None:
    stream = reader(vector(3), JOINTS)
    assert numbers(stream, state("abc", 1, 2, 3)) == [1, 2, 3]
    assert numbers(stream, state("cba", 3, 2, 1)) == [1, 2, 3]
    assert stream.binding.joints == ("a", "b", "c")


def choose(stream: SampleReader, names: str, ms: int) -> bool:
    """Whether a state with these joints, which arrives so late, can be used."""
    try:
        stream.read(serialize_message(state(names, *range(len(names) or 3), ms=ms)), 5_000_000_000 + ms * MS)
    except ConversionError:
        return False
    return True


@pytest.mark.parametrize("names", ["abc", ""])
def test_joints_of_a_first_message_that_stays_alone_give_way_to_those_that_come(names: str) -> None:
    stream = reader(vector(3), JOINTS)
    assert choose(stream, "xyz", ms=0)
    found = [choose(stream, names, ms) for ms in range(10, 2000, 10)]
    assert found.index(True) == 50 and all(found[50:]), "after half a second"
    assert stream.binding.joints == tuple(names)


@pytest.mark.parametrize("first", ["abc", "cab", "xyz"])
def test_joints_that_go_on_coming_stay_whatever_else_comes_and_whenever(first: str) -> None:
    stream = reader(vector(3), JOINTS)
    for ms in range(0, 1200, 10):
        assert choose(stream, first, ms)
        assert choose(stream, "abc", ms + 5) == (set(first) == set("abc"))
    # A publisher that dies does not turn its joints into those of another arm.
    assert [choose(stream, "uvw", ms) for ms in range(1200, 3000, 100)] == [False] * 18
    assert stream.binding.joints == tuple(first) and choose(stream, first, ms=3000)


@given(st.lists(st.sampled_from(["abc", "cba", "ab", "abcd", "xyz", "gh", ""]), max_size=40))
def test_named_joints_stay_as_they_are(messages: list[str]) -> None:
    stream = reader(vector(3), JOINTS, joints="abc")
    for number, names in enumerate(messages):
        choose(stream, names, ms=400 * number)
    assert stream.binding.joints == ("a", "b", "c")


def test_states_without_names_are_taken_by_position_as_long_as_no_names_are_known() -> None:
    stream = reader(vector(3), JOINTS)
    assert numbers(stream, state("", 1, 2, 3)) == [1, 2, 3]
    assert numbers(stream, state("cba", 3, 2, 1)) == [3, 2, 1]
    with pytest.raises(ConversionError, match="expected a number in position for each name, found 3 for 0 names"):
        numbers(stream, state("", 1, 2, 3))


def test_missing_joints_make_the_sample_unusable_and_are_named() -> None:
    stream = reader(vector(3), JOINTS, joints="abc")
    with pytest.raises(ConversionError, match="expected joints b, c, found a, d"):
        stream.read(serialize_message(state("ad", 1, 2)))


def test_a_joint_that_comes_twice_is_refused_unless_nobody_wants_it() -> None:
    stream = reader(vector(3), JOINTS, joints="abc")
    assert numbers(stream, state("xabcx", 9, 1, 2, 3, 8)) == [1, 2, 3]
    with pytest.raises(ConversionError, match="expected each joint once, found a, b, c, a"):
        numbers(stream, state("abca", 1, 2, 3, 4, ms=10))


def test_another_device_on_the_topic_brings_no_sample_and_is_named() -> None:
    stream = reader(vector(3), JOINTS)
    with pytest.raises(ConversionError, match="expected 3 numbers in position, found 1 of g"):
        numbers(stream, state("g", 9))
    assert numbers(stream, state("abc", 1, 2, 3)) == [1, 2, 3]
    with pytest.raises(ConversionError, match="expected joints a, b, c, found g"):
        numbers(stream, state("g", 9, ms=10))


def test_partial_states_of_two_publishers_are_merged_by_name() -> None:
    stream = reader(vector(3), JOINTS, joints="abg")
    with pytest.raises(ConversionError, match="expected joints g"):
        numbers(stream, state("ba", 2, 1))
    assert numbers(stream, state("g", 9, ms=10)) == [1, 2, 9]
    assert numbers(stream, state("ba", 4, 3, ms=20)) == [3, 4, 9]
    with pytest.raises(ConversionError, match="expected joints g, found b, a"):
        numbers(stream, state("ba", 4, 3, ms=300))
    stream.reset()
    with pytest.raises(ConversionError, match="expected joints a, b"):
        numbers(stream, state("g", 9, ms=310))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_a_bad_state_of_one_publisher_is_dropped_alone(bad: float) -> None:
    stream = reader(vector(3), JOINTS, joints="abg")
    assert numbers(stream, state("abg", 1, 2, 9)) == [1, 2, 9]
    with pytest.raises(ConversionError, match="expected finite numbers"):
        numbers(stream, state("g", bad, ms=10))
    assert numbers(stream, state("ba", 4, 3, ms=20)) == [3, 4, 9]


def test_joints_without_stamps_grow_old_by_the_time_of_arrival() -> None:
    stream = reader(vector(2), JOINTS, joints="ag")
    a, g = (state(name, number) for name, number in (("a", 1), ("g", 9)))
    a.header.stamp.sec = g.header.stamp.sec = 0
    with pytest.raises(ConversionError, match="expected joints g"):
        stream.read(serialize_message(a), 1_000_000_000)
    assert stream.read(serialize_message(g), 1_100_000_000)[1].row == (1.0, 9.0)
    with pytest.raises(ConversionError, match="expected joints a"):
        stream.read(serialize_message(g), 1_300_000_000)


def test_velocities_are_chosen_by_name_too() -> None:
    stream = reader(vector(2), f"{JOINTS}.velocity", joints="ba")
    assert numbers(stream, state("ab", 1, 2, velocity=[3.0, 4.0])) == [4, 3]
    with pytest.raises(ConversionError, match="expected a number in velocity for each name, found 0 for 2 names"):
        numbers(stream, state("ab", 1, 2))


def test_predicted_joint_states_carry_names() -> None:
    (binding,) = bind([vector(2)], {"tactile": JOINTS}, joints={"tactile": ["shoulder", "elbow"]})
    message = JointState()
    fill(binding, message, np.array([1.0, 2.0], np.float32))
    assert (message.name, message.position.tolist()) == (["shoulder", "elbow"], [1, 2])


@pytest.mark.parametrize(
    ("message", "joints", "sentence"),
    [
        (JOINTS, "ab", "streams.tactile.joints: expected the names of 3 joints for vector of shape 3, found a, b"),
        (JOINTS, "aba", "streams.tactile.joints: expected the names of 3 joints"),
        (VECTOR, "abc", "streams.tactile.joints: expected joints only with the message sensor_msgs/msg/JointState"),
    ],
)
def test_joints_that_do_not_fit_the_modality_are_refused(message: str, joints: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        reader(vector(3), message, joints=joints)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e39])
def test_one_number_that_is_not_finite_costs_its_message_alone(bad: float) -> None:
    stream = reader(window(6), WRENCH)
    samples = []
    for step in range(5):
        wrench = WrenchStamped()
        wrench.wrench.force.y = bad if step == 2 else float(step)
        try:
            samples.append(stream.read(serialize_message(wrench))[1])
        except ConversionError as error:
            assert step == 2 and "expected finite numbers, found" in str(error)
    assert raw_array(stream.binding, samples)[:, 1].tolist() == [0, 1, 3, 4]


def test_serialised_images_give_the_pixels_of_message_objects() -> None:
    from smvae_core.preprocessing import RGB

    stream = reader(picture(RGB()), IMAGE)
    message = Image(height=2, width=2, step=8, encoding="rgb8", data=list(range(16)))
    _, sample = stream.read(serialize_message(message))
    assert np.array_equal(raw_array(stream.binding, [sample]), raw_array(stream.binding, [message]))


@given(st.binary(max_size=80))
def test_foreign_bytes_raise_nothing_but_a_conversion_error(data: bytes) -> None:
    from smvae_core.preprocessing import RGB

    for stream in (reader(window(6), WRENCH), reader(vector(2), JOINTS, joints="ab"), reader(picture(RGB()), IMAGE)):
        try:
            _, sample = stream.read(data)
            raw_array(stream.binding, [sample])
        except ConversionError:
            continue


def test_fields_and_joints_come_from_the_settings() -> None:
    settings = default_settings([vector(2, "base"), vector(2, "arm")]).changed(
        {
            "streams": {
                "base": {"message": "geometry_msgs/msg/Twist", "fields": ["linear.x", "angular.z"]},
                "arm": {"message": JOINTS, "joints": ["a", "b"], "fields": [""]},
            }
        }
    )
    base, arm = settings.bindings([vector(2, "base"), vector(2, "arm")])
    assert (base.type, base.fields, base.joints) == ("geometry_msgs/msg/Twist", ("linear.x", "angular.z"), ())
    assert (arm.type, arm.fields, arm.joints) == (JOINTS, (), ("a", "b"))

"""Messages of modalities: the usual one, those that can be chosen, those that are refused."""

import sqlite3
from array import array
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped, WrenchStamped
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from sensor_msgs.msg import JointState
from smvae_ros.msg import VectorStamped

from smvae_core.errors import ConfigurationError
from smvae_core.modality import Modality
from smvae_core.preprocessing import RGB, Depth, Force, Vector
from smvae_ros.bags.reading import read_bag
from smvae_ros.conversions.arrays import fill, raw_array
from smvae_ros.conversions.bindings import IMAGE, JOINTS, TWIST, VECTOR, VECTOR_STAMPED, WRENCH, Binding, bind
from smvae_ros.conversions.errors import ConversionError
from smvae_ros.settings import default_topics

ROOT = Path(__file__).parents[3]
CLASSES = {WRENCH: WrenchStamped, TWIST: TwistStamped, JOINTS: JointState, VECTOR: VectorStamped}


def vector(size: int, name: str = "tactile") -> Modality:
    return Modality(name=name, source=name, preprocessing=Vector(size=size), network="vector", likelihood="normal")


def window(channels: int, name: str = "tactile") -> Modality:
    force = Force(scale=(1.0,) * channels, window=8)
    return Modality(name=name, source=name, preprocessing=force, network="sequence", likelihood="normal")


def picture(kind: RGB | Depth, name: str = "tactile") -> Modality:
    return Modality(name=name, source=name, preprocessing=kind, network="image", likelihood="bernoulli")


@pytest.mark.parametrize(
    ("modality", "message"),
    [
        (picture(RGB()), IMAGE),
        (picture(Depth()), IMAGE),
        (window(6), WRENCH),
        (window(3), VECTOR),
        (vector(4), TWIST),
        (vector(6), TWIST),
        (vector(7), VECTOR),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.preprocessing.kind} {value.shape}",
)
def test_the_usual_message_goes_by_kind_and_size(modality: Modality, message: str) -> None:
    assert bind([modality], {})[0].message == bind([modality], {"tactile": ""})[0].message == message


@pytest.mark.parametrize(
    ("modality", "message"),
    [
        (vector(7), IMAGE),
        (vector(7), TWIST),
        (vector(7), WRENCH),
        (window(5), WRENCH),
        (picture(RGB()), VECTOR),
        (vector(7), "std_msgs/msg/String"),
        (vector(7), f"{JOINTS}.name"),
    ],
)
def test_a_message_that_cannot_fit_is_refused_with_those_that_can(modality: Modality, message: str) -> None:
    with pytest.raises(ConfigurationError, match=r"streams\.tactile\.message: expected one of .*found") as caught:
        bind([modality], {"tactile": message})
    assert f"'{message}'" in str(caught.value)
    assert (IMAGE if modality.preprocessing.kind == "rgb" else VECTOR) in str(caught.value)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40))
def test_numbers_of_any_length_go_into_a_message_and_come_out(numbers: list[float]) -> None:
    modality = vector(len(numbers))
    for message in (JOINTS, f"{JOINTS}.velocity", f"{JOINTS}.effort", VECTOR):
        (binding,) = bind([modality], {"tactile": message})
        filled = CLASSES[binding.type]()
        fill(binding, filled, np.array(numbers, np.float32))
        assert raw_array(binding, [filled]).tolist() == numbers


@pytest.mark.parametrize("message", [WRENCH, TWIST])
def test_six_numbers_go_through_wrench_and_twist(message: str) -> None:
    (binding,) = bind([vector(6)], {"tactile": message})
    filled = CLASSES[message]()
    fill(binding, filled, np.arange(1.0, 7.0, dtype=np.float32))
    assert raw_array(binding, [filled]).tolist() == [1, 2, 3, 4, 5, 6]


def test_a_window_of_joint_efforts_is_a_row_for_each_message() -> None:
    (binding,) = bind([window(2)], {"tactile": f"{JOINTS}.effort"})
    messages = [SimpleNamespace(name=[], effort=array("d", [step, -step])) for step in range(3)]
    assert raw_array(binding, messages).tolist() == [[0, 0], [1, -1], [2, -2]]


@pytest.mark.parametrize("found", [0, 6, 8, 100_000])
def test_another_number_of_values_is_refused(found: int) -> None:
    (binding,) = bind([vector(7)], {"tactile": JOINTS})
    with pytest.raises(ConversionError, match=f"tactile: expected 7 numbers in position, found {found}"):
        raw_array(binding, [JointState(position=[0.0] * found)])


# A text is a sequence too, but nothing that a message's numbers can be.
@given(st.one_of(st.none(), st.integers(), st.lists(st.one_of(st.none(), st.floats(), st.text()), max_size=3)))
def test_foreign_values_raise_only_a_conversion_error(values: object) -> None:
    binding = Binding(vector(2), VECTOR)
    try:
        raw = raw_array(binding, [SimpleNamespace(values=values)])
    except ConversionError:
        return
    assert raw.shape == (2,) and np.isfinite(raw).all()


def test_topics_go_by_name_and_two_never_share_one() -> None:
    assert default_topics([window(6, "force"), vector(4, "action"), picture(RGB(), "left"), vector(7, "joints")]) == {
        "force": "wrench",
        "action": "action",
        "left": "left/image",
        "joints": "joints",
    }
    assert default_topics([window(6, "force"), vector(6, "wrench")]) == {"force": "force", "wrench": "wrench"}


def test_bags_are_read_with_the_message_as_it_is_in_the_tree() -> None:
    assert (ROOT / "msg" / "VectorStamped.msg").read_text() == VECTOR_STAMPED


def test_a_bag_that_does_not_describe_the_message_is_read(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(VECTOR_STAMPED, VECTOR))
    message = VectorStamped(values=[1.5, -2.5])
    message.header.stamp.sec = 7
    with Writer(tmp_path / "bag", version=8) as writer:
        connection = writer.add_connection("/tactile", VECTOR, typestore=store)
        writer.write(connection, 8, bytes(serialize_message(message)))
    # As in a bag from the time before they were stored.
    with closing(sqlite3.connect(next((tmp_path / "bag").glob("*.db3")))) as database, database:
        assert database.execute("DELETE FROM message_definitions").rowcount
    ((name, log_ns, stamp_ns, read),) = read_bag(tmp_path / "bag", {"tactile": "/tactile"}, {"tactile": [VECTOR]})
    assert (name, log_ns, stamp_ns) == ("tactile", 8, 7_000_000_000)
    assert raw_array(Binding(vector(2), VECTOR), [read]).tolist() == [1.5, -2.5]

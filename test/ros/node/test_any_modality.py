"""Checkpoints with other modalities than the usual four run in the node and in the replay, by data alone."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped, WrenchStamped
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from sensor_msgs.msg import Image, JointState
from smvae_ros.msg import VectorStamped

from smvae_core.errors import ConfigurationError
from smvae_core.modality import Modality
from smvae_core.preprocessing import Grey
from smvae_ros.bags.reading import BagError
from smvae_ros.conversions.bindings import IMAGE, JOINTS, TWIST, VECTOR, VECTOR_STAMPED, WRENCH
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.run import replay
from smvae_ros.settings import default_topics

from ..robot import FusionProcess, Robot, fusion_starter, stamp_ns
from ..senses import JOINTS_MESSAGE, SIX, THREE, Senses, camera, messages, tiny_checkpoint

ROS_TYPES = {
    "left": IMAGE,
    "right": IMAGE,
    "depth": IMAGE,
    "force": WRENCH,
    "action": TWIST,
    "joints": JOINTS,
    "scene": IMAGE,
    "tactile": VECTOR,
    "hand": VECTOR,
}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a camera, a tactile array and a hand."""
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "three.safetensors", THREE)


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two cameras, depth, force, action and joint state."""
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "six.safetensors", SIX)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[Robot, FusionProcess]]]:
    """Starts a node of the test's own."""
    with fusion_starter(tmp_path / "log") as begin:
        yield begin


def topics(modalities: tuple[Modality, ...]) -> dict[str, str]:
    return {name: f"/{topic}" for name, topic in default_topics(modalities).items()}


def test_six_modalities_are_fused_and_predicted(start: Callable, six: Path) -> None:
    robot, _ = start(checkpoint=six, **JOINTS_MESSAGE)
    names = [modality.name for modality in SIX]
    heard = {
        "left": robot.listen("predicted/left", Image),
        "right": robot.listen("predicted/right", Image),
        "depth": robot.listen("predicted/depth", Image),
        "force": robot.listen("predicted/wrench", WrenchStamped),
        "action": robot.listen("predicted/action", TwistStamped),
        "joints": robot.listen("predicted/joints", JointState),
    }
    senses = Senses(robot, topics(SIX))
    latent = robot.wait_for_set(*names)
    assert latent.header.frame_id == "left_frame"
    assert len(latent.attention) == 6
    senses.sending = {"right", "force", "action"}
    robot.wait_for_set("right", "force", "action")
    for predicted in heard.values():
        predicted.clear()
    robot.wait(lambda: all(heard.values()), "a prediction of each of the six")
    joints = heard["joints"][0]
    assert joints.header.frame_id == "joints_frame"
    assert len(joints.position) == 7 and np.isfinite(joints.position).all()


def test_three_modalities_are_fused_and_vectors_predicted_as_they_come(start: Callable, three: Path) -> None:
    robot, _ = start(checkpoint=three)
    tactile = robot.listen("predicted/tactile", VectorStamped)
    hand = robot.listen("predicted/hand", VectorStamped)
    senses = Senses(robot, topics(THREE))
    robot.wait_for_set("scene", "tactile", "hand")
    senses.sending = {"scene"}
    robot.wait_for_set("scene")
    robot.wait(lambda: tactile and hand, "predictions of the vectors")
    assert (len(tactile[0].values), len(hand[0].values)) == (11, 3)
    robot.wait(lambda: stamp_ns(robot.latents[-1]) >= stamp_ns(tactile[0]), "the latent of the prediction's set")


def test_a_grey_modality_is_fed_by_a_colour_camera(start: Callable, tmp_path: Path) -> None:
    grey = Modality(name="grey", source="left.grey", preprocessing=Grey(), network="image", likelihood="bernoulli")
    checkpoint = tiny_checkpoint(tmp_path / "grey.safetensors", (camera("left"), grey))
    robot, _ = start(**{"checkpoint": checkpoint, "streams.grey.topic": "left/image", "reference": "left"})
    heard = robot.listen("predicted/grey", Image)
    Senses(robot, {"left": "/left/image"})
    robot.wait_for_set("left", "grey")
    robot.wait(lambda: heard, "a prediction of the grey picture")


def test_joints_of_a_first_message_that_stays_alone_give_way_and_are_learned_anew(start: Callable, six: Path) -> None:
    robot, process = start(checkpoint=six, **JOINTS_MESSAGE)
    publisher = robot.node.create_publisher(JointState, "/joints", 10)
    robot.wait(publisher.get_subscription_count, "the node to listen")
    gripper = JointState(name=[f"finger{number}" for number in range(7)], position=[0.0] * 7)

    def take_gripper(times: int) -> None:
        def taken() -> bool:
            publisher.publish(gripper)
            return process.output().count("takes the joints of the first message, in its order: finger0, ") == times

        robot.wait(taken, "the names of a gripper")

    take_gripper(times=1)
    senses = Senses(robot, topics(SIX))
    told = (
        "the joints of the first message (finger0, finger1, finger2, finger3, finger4, finger5, finger6) came no more"
    )
    robot.wait(lambda: f"{told}; takes joint0, joint1, " in process.output(), "the names of the arm")
    robot.wait_for_set(*(modality.name for modality in SIX))
    senses.sending = set()
    assert robot.change("deactivate") and robot.change("activate")
    take_gripper(times=2)


def test_another_field_of_the_joint_state_may_be_meant(start: Callable, six: Path) -> None:
    robot, process = start(**{"checkpoint": six, "streams.joints.message": f"{JOINTS}.effort"})
    Senses(robot, topics(SIX))
    # The robot's joint states hold positions alone.
    robot.wait_for_set("left", "right", "depth", "force", "action")
    robot.wait(lambda: "expected 7 numbers in effort, found 0" in process.output(), "a warning")
    robot.wait(lambda: robot.dropped("joints").get("rejected", 0) > 0, "the count of rejected joint states")


def test_a_message_that_cannot_fit_leaves_the_node_unconfigured_until_it_is_mended(start: Callable, six: Path) -> None:
    robot, process = start(**{"checkpoint": six, "streams.joints.message": IMAGE})
    robot.wait_for_state("unconfigured")
    robot.wait(lambda: "streams.joints.message: expected one of" in process.output(), "the reason")
    assert "for vector of shape 7, found 'sensor_msgs/msg/Image'" in process.output()
    assert robot.set(streams__joints__message=JOINTS) == ""
    assert robot.change("configure")
    assert robot.change("activate")
    Senses(robot, topics(SIX))
    robot.wait_for_set(*(modality.name for modality in SIX))


def test_a_new_configure_takes_a_checkpoint_with_other_modalities(start: Callable, six: Path, three: Path) -> None:
    robot, _ = start(checkpoint=six, **JOINTS_MESSAGE)
    robot.wait_for_state("active")
    assert robot.change("deactivate") and robot.change("cleanup")
    assert robot.set(checkpoint=str(three), reference="scene") == ""
    assert robot.change("configure") and robot.change("activate")
    Senses(robot, topics(THREE))
    robot.wait_for_set("scene", "tactile", "hand")


@pytest.fixture(params=[StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=["mcap", "sqlite3"])
def plugin(request: pytest.FixtureRequest) -> StoragePlugin:
    """How a bag is stored."""
    return request.param


def recorded(path: Path, modalities: tuple[Modality, ...], plugin: StoragePlugin, steps: int = 12) -> Path:
    """A bag of what the sensors send."""
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(VECTOR_STAMPED, VECTOR))
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        connections = {
            name: writer.add_connection(topic, ROS_TYPES[name], typestore=store)
            for name, topic in topics(modalities).items()
        }
        for step in range(1, steps + 1):
            moment_ns = 1_000_000_000_000 + step * 50_000_000
            for name, connection in reversed(connections.items()):
                for message in messages(name, moment_ns):
                    writer.write(connection, stamp_ns(message), bytes(serialize_message(message)))
    return path


def with_joints(message: str) -> tuple[dict[str, Any], ...]:
    return ({"streams": {"joints": {"message": message}}},)


def test_six_modalities_replay(six: Path, plugin: StoragePlugin, tmp_path: Path) -> None:
    bag = recorded(tmp_path / "bag", SIX, plugin)
    summary = replay(bag, tmp_path / "out", ReplayJob(six, with_joints(JOINTS), "cpu"))
    assert summary.sets_by_subset == {"left+right+depth+force+action+joints": 12}
    assert len(summary.evaluation.subsets) == 63
    assert summary.settings.streams["joints"].message == JOINTS
    assert (tmp_path / "out" / "predictions.png").stat().st_size > 1000


def test_three_modalities_replay(three: Path, plugin: StoragePlugin, tmp_path: Path) -> None:
    bag = recorded(tmp_path / "bag", THREE, plugin)
    summary = replay(bag, tmp_path / "out", ReplayJob(three, device="cpu"))
    assert summary.sets_by_subset == {"scene+tactile+hand": 12}
    assert np.isfinite([value for row in summary.evaluation.subsets for value in row.mse.values()]).all()


def test_a_replay_refuses_what_cannot_fit_and_a_bag_of_another_type(six: Path, tmp_path: Path) -> None:
    bag = recorded(tmp_path / "bag", SIX, StoragePlugin.MCAP, steps=2)
    with pytest.raises(ConfigurationError, match=r"streams\.joints\.message.*shape 7, found 'sensor_msgs/msg/Image'"):
        replay(bag, tmp_path / "out", ReplayJob(six, with_joints(IMAGE), "cpu"))
    with pytest.raises(BagError, match=f"/joints: expected {VECTOR}, found {JOINTS}"):
        replay(bag, tmp_path / "out", ReplayJob(six, device="cpu"))
    assert not (tmp_path / "out").exists()

"""A bag played to the running node and the same bag replayed offline: the same sets, the same latents."""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from geometry_msgs.msg import PoseArray, TwistStamped, WrenchStamped
from rclpy.qos import QoSProfile
from rclpy.time import Time
from rosbags.highlevel import AnyReader
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import BatteryState, CameraInfo, Image, Joy

from smvae_core.modality import Modality
from smvae_core.preprocessing import Vector
from smvae_ros.bags.from_logs import STEP_NS
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.run import replay
from smvae_ros.replay.to_logs import write_logs
from smvae_ros.settings import default_settings

from ..bags.made import MS, START_NS, Timed, write_typed
from ..bags.made import TYPES as TYPESTORE
from ..robot import Robot, fusion_and_robot, stamp_ns
from ..senses import tiny_checkpoint

TYPES = {
    "/rgb/image": Image,
    "/depth/image": Image,
    "/depth/camera_info": CameraInfo,
    "/wrench": WrenchStamped,
    "/action": TwistStamped,
}


class BagPlayer:
    """Publishes a bag's messages with their own stamps, and their log times as simulated time.

    Args:
        types: of the messages, by topic.
        listened: the topics to which the node subscribes.
    """

    def __init__(self, robot: Robot, bag: Path, types: dict[str, Any], listened: Sequence[str]) -> None:
        self._listened = listened
        self._robot = robot
        self._clock = robot.node.create_publisher(Clock, "/clock", 10)
        self._publishers = {
            topic: robot.node.create_publisher(kind, topic, QoSProfile(depth=200)) for topic, kind in types.items()
        }
        with AnyReader([bag]) as reader:
            self._messages = [(log_ns, c.topic, bytes(data)) for c, log_ns, data in reader.messages()]

    def play(self, expected: list[tuple[int, int]]) -> None:
        """Play it all, but never ahead of the node.

        Args:
            expected: of each set, when it has to go out, and how many there are by then.
        """
        self._robot.wait(
            lambda: (
                all(self._publishers[topic].get_subscription_count() for topic in self._listened)
                and self._clock.get_subscription_count() > 0
            ),
            "the node to subscribe",
        )
        begin_ns = self._messages[0][0]
        self._robot.wait(lambda: self._shows(begin_ns), "the node to follow simulated time")
        for log_ns, topic, data in self._messages:
            self._tell(log_ns, 0)
            while expected and expected[0][0] < log_ns:
                self._tell(log_ns, expected.pop(0)[1])
            self._publishers[topic].publish(data)
        # What waits for messages that do not come goes out when simulated time has passed its deadline.
        after_ns = count(self._messages[-1][0], STEP_NS // 5)
        sets = expected[-1][1] if expected else 0
        self._robot.wait(lambda: self._tell(next(after_ns), 0) or len(self._robot.latents) >= sets, f"{sets} sets")

    def _shows(self, now_ns: int) -> bool:
        self._tell(now_ns, 0)
        status = self._robot.status
        return status is not None and stamp_ns(status) == now_ns

    def _tell(self, now_ns: int, sets: int) -> None:
        """Set the clock, again and again until so many latents are there."""

        def arrived() -> bool:
            self._clock.publish(Clock(clock=Time(nanoseconds=now_ns).to_msg()))
            return len(self._robot.latents) >= sets

        self._robot.wait(arrived, f"{sets} sets by {now_ns}")


@pytest.fixture(params=["checkpoint", "remembering"])
def model(request: pytest.FixtureRequest) -> Path:
    """A checkpoint without memory, and one with."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def live(model: Path, tmp_path: Path) -> Iterator[Robot]:
    """A robot in simulated time, and a node in it."""
    with fusion_and_robot(tmp_path / "log", {"checkpoint": model, "use_sim_time": True}) as (robot, _):
        yield robot


def test_a_bag_gives_the_same_sets_and_latents_live_and_offline(
    live: Robot, bag: Path, model: Path, tmp_path: Path
) -> None:
    replay(bag, tmp_path / "results", ReplayJob(model, device="cpu"))
    offline = pq.read_table(tmp_path / "results" / "sets.parquet").to_pylist()
    player = BagPlayer(live, bag, TYPES, ("/rgb/image", "/depth/image", "/wrench", "/action"))
    player.play([(row["log_ns"], number) for number, row in enumerate(offline, start=1)])
    assert [stamp_ns(latent) for latent in live.latents] == [row["stamp_ns"] for row in offline]
    for latent, row in zip(live.latents, offline):
        names = [name for name in ("rgb", "depth", "force", "action") if row[f"present_{name}"]]
        assert list(latent.modalities) == names
        np.testing.assert_allclose(latent.mean, row["mean"], atol=1e-4)
        np.testing.assert_allclose(latent.log_variance, row["log_variance"], atol=1e-4)
        np.testing.assert_allclose(latent.attention, [row[f"attention_{name}"] for name in names], atol=1e-4)
        assert latent.attention_of_memory == pytest.approx(row["attention_of_memory"], abs=1e-4)
        assert latent.memory_age == pytest.approx(-1.0 if row["memory_age"] is None else row["memory_age"])


POSES, JOY, BATTERY = "geometry_msgs/msg/PoseArray", "sensor_msgs/msg/Joy", "sensor_msgs/msg/BatteryState"
FIELDS = {
    "arm": {"topic": "/poses", "message": POSES, "fields": ["poses[-1].position.x", "poses[0].orientation.w"]},
    "pad": {"topic": "/pad", "message": JOY, "fields": ["buttons", "axes[1]"]},
    "power": {"topic": "/power", "message": BATTERY, "fields": ["present", "power_supply_status"]},
}
"""An array of messages in a message, arrays of whole and other numbers, a truth value and a small number."""


def bag_of_any_messages(path: Path) -> Path:
    make = TYPESTORE.types
    none = np.zeros(0, np.float32)
    messages: list[Timed] = []
    for n in range(20):
        now = START_NS + n * 50 * MS
        header = make["std_msgs/msg/Header"](make["builtin_interfaces/msg/Time"](*divmod(now, 1_000_000_000)), "base")
        turned = make["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, float(np.cos(n)))
        places = [make["geometry_msgs/msg/Point"](float(np.sin(n + k)), 0.0, 0.0) for k in range(1 + n % 3)]
        poses = make[POSES](header, [make["geometry_msgs/msg/Pose"](place, turned) for place in places])
        pad = make[JOY](header, np.array([0.0, 0.1 * n], np.float32), np.array([n % 2, 20 - n], np.int32))
        power = make[BATTERY](header, *[0.0] * 7, n % 5, 0, 0, n % 4 < 2, none, none, "", "")
        for late, (topic, message) in enumerate({"/pad": pad, "/power": power, "/poses": poses}.items()):
            content = bytes(TYPESTORE.serialize_cdr(message, message.__msgtype__))
            messages.append((topic, now + late * MS, content))
    return write_typed(path, {"/poses": POSES, "/pad": JOY, "/power": BATTERY}, messages)


def test_fields_of_any_message_are_the_same_in_log_replay_and_node(tmp_path: Path) -> None:
    sizes = {"arm": 2, "pad": 3, "power": 2}
    chosen = [
        Modality(name=name, source=name, preprocessing=Vector(size=size), network="vector", likelihood="normal")
        for name, size in sizes.items()
    ]
    bag = bag_of_any_messages(tmp_path / "bag")
    settings = {"reference": "arm", "streams": FIELDS}
    write_logs(bag, chosen, default_settings(chosen).changed(settings), tmp_path / "logs")
    model = tiny_checkpoint(tmp_path / "any.safetensors", tuple(chosen))
    replay(bag, tmp_path / "results", ReplayJob(model, (settings,), device="cpu"))
    offline = pq.read_table(tmp_path / "results" / "sets.parquet").to_pylist()
    (log,) = (tmp_path / "logs").glob("*.h5")
    with h5py.File(log) as file:
        for name in FIELDS:
            np.testing.assert_allclose([row[f"seen_{name}"] for row in offline], file[name][:], rtol=1e-6)
    parameters = {f"streams.{name}.{key}": value for name, stream in FIELDS.items() for key, value in stream.items()}
    parameters |= {"checkpoint": model, "use_sim_time": True, "reference": "arm"}
    with fusion_and_robot(tmp_path / "node", parameters) as (robot, _):
        types = {"/poses": PoseArray, "/pad": Joy, "/power": BatteryState}
        player = BagPlayer(robot, bag, types, list(types))
        player.play([(row["log_ns"], number) for number, row in enumerate(offline, start=1)])
        assert [list(latent.modalities) for latent in robot.latents] == [list(FIELDS)] * len(offline)
        for latent, row in zip(robot.latents, offline, strict=True):
            np.testing.assert_allclose(latent.mean, row["mean"], atol=1e-4)

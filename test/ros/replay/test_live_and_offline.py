"""A bag played to the running node and the same bag replayed offline: the same sets, the same latents."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from geometry_msgs.msg import TwistStamped, WrenchStamped
from rclpy.qos import QoSProfile
from rclpy.time import Time
from rosbags.highlevel import AnyReader
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image

from smvae_ros.bags.from_logs import STEP_NS
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.run import replay

from ..robot import Robot, fusion_and_robot, stamp_ns

TYPES = {
    "/rgb/image": Image,
    "/depth/image": Image,
    "/depth/camera_info": CameraInfo,
    "/wrench": WrenchStamped,
    "/action": TwistStamped,
}


class BagPlayer:
    """Publishes a bag's messages with their own stamps, and their log times as simulated time."""

    def __init__(self, robot: Robot, bag: Path) -> None:
        self._robot = robot
        self._clock = robot.node.create_publisher(Clock, "/clock", 10)
        self._publishers = {
            topic: robot.node.create_publisher(kind, topic, QoSProfile(depth=200)) for topic, kind in TYPES.items()
        }
        with AnyReader([bag]) as reader:
            self._messages = [(log_ns, c.topic, bytes(data)) for c, log_ns, data in reader.messages()]

    def play(self, expected: list[tuple[int, int]]) -> None:
        """Play it all, but never ahead of the node.

        Args:
            expected: of each set, when it has to go out, and how many there are by then.
        """
        listened = ("/rgb/image", "/depth/image", "/wrench", "/action")
        self._robot.wait(
            lambda: (
                all(self._publishers[topic].get_subscription_count() for topic in listened)
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
    BagPlayer(live, bag).play([(row["log_ns"], number) for number, row in enumerate(offline, start=1)])
    assert [stamp_ns(latent) for latent in live.latents] == [row["stamp_ns"] for row in offline]
    for latent, row in zip(live.latents, offline):
        names = [name for name in ("rgb", "depth", "force", "action") if row[f"present_{name}"]]
        assert list(latent.modalities) == names
        np.testing.assert_allclose(latent.mean, row["mean"], atol=1e-4)
        np.testing.assert_allclose(latent.log_variance, row["log_variance"], atol=1e-4)
        np.testing.assert_allclose(latent.attention, [row[f"attention_{name}"] for name in names], atol=1e-4)
        assert latent.attention_of_memory == pytest.approx(row["attention_of_memory"], abs=1e-4)
        assert latent.memory_age == pytest.approx(-1.0 if row["memory_age"] is None else row["memory_age"])

"""The simulated robot as a process: its topics, its parameters and its commands."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import QoSProfile
from smvae_ros.msg import VectorStamped

from smvae_core.simulation.policy import PegPolicy
from smvae_ros.simulated_robot.node import TOPICS

from ..robot import own_domain
from .watcher import Watcher

pytestmark = pytest.mark.rendering


@pytest.fixture(scope="module")
def domain() -> Iterator[int]:
    with own_domain() as number:
        yield number


@pytest.fixture(scope="module")
def robot(domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watcher]:
    watcher = Watcher(domain, tmp_path_factory.mktemp("robot") / "log", publish_clock="true", policy="commands")
    yield watcher
    watcher.close()


def test_it_brings_what_a_robot_brings(robot: Watcher) -> None:
    for name in (*TOPICS, "info", "clock"):
        robot.wait_for(name)
    rgb, depth, info = (robot.last[name] for name in ("rgb", "depth", "info"))
    assert (rgb.encoding, depth.encoding) == ("rgb8", "32FC1")
    assert (rgb.width, rgb.height, len(rgb.data)) == (128, 128, 128 * 128 * 3)
    assert rgb.header.frame_id == info.header.frame_id == "camera_optical_frame"
    assert info.k[0] == pytest.approx(64 / np.tan(np.radians(26.5) / 2))
    assert robot.last["joints"].name == [f"joint_{i}" for i in range(1, 8)]


@pytest.mark.parametrize(
    ("sensor", "other"), [("rgb", "depth"), ("depth", "rgb"), ("wrench", "rgb"), ("joints", "rgb")]
)
def test_an_unplugged_sensor_is_silent_and_the_others_go_on(robot: Watcher, sensor: str, other: str) -> None:
    assert robot.set(f"{sensor}.fault", "unplugged").successful
    robot.wait_for(other)
    before = robot.count[sensor]
    robot.wait_for(other, 5)
    # What was under way when the parameter changed may still have arrived.
    assert robot.count[sensor] - before <= 100 * (sensor == "wrench") + 5
    settled = robot.count[sensor]
    robot.wait_for(other, 5)
    assert robot.count[sensor] == settled
    assert robot.set(f"{sensor}.fault", "none").successful
    robot.wait_for(sensor)


def test_encodings_and_size_change_while_it_runs(robot: Watcher) -> None:
    for name, value in (("image_size", 64), ("rgb.encoding", "mono8"), ("depth.encoding", "16UC1")):
        assert robot.set(name, value).successful
    robot.wait(lambda: robot.last["rgb"].encoding == "mono8" and robot.last["rgb"].width == 64, "small grey images")
    robot.wait(lambda: robot.last["depth"].encoding == "16UC1", "millimetres")
    millimetres = np.frombuffer(robot.last["depth"].data, np.uint16)
    assert 500 < np.median(millimetres) < 3000
    assert len(robot.wait_for("rgb").data) == 64 * 64


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("rgb.fault", "broken", "rgb.fault: expected one of none, unplugged, .*, found 'broken'"),
        ("rgb.fault", "zero", "rgb.fault: expected one of .*, found 'zero'"),
        ("wrench.rate", -1.0, ".*wrench.rate.* -1.0.*"),
        ("wrench.rate", 1e6, ".*wrench.rate.* 1000.0.*"),
        ("rgb.rate", float("nan"), ".*rgb.rate.* 200.0.*nan.*"),
        ("rgb.rate", 20, "Wrong parameter type, expected .*DOUBLE.* got .*INTEGER.*"),
        ("depth.encoding", "yuv", "depth.encoding: expected one of 32FC1, 16UC1, found 'yuv'"),
        ("image_size", 3, "image_size: expected 16 to 2048, found 3"),
        ("seed", -1, "seed: expected 0 to .*, found -1"),
    ],
)
def test_a_bad_parameter_is_refused_with_the_reason(robot: Watcher, name: str, value: Any, reason: str) -> None:
    result = robot.set(name, value)
    assert not result.successful
    assert re.fullmatch(reason, result.reason)
    robot.wait_for("rgb")


@pytest.mark.parametrize("seed", [5, 6, 5])
def test_a_seed_puts_the_arm_at_its_start_and_the_tip_is_told(robot: Watcher, seed: int) -> None:
    if "tip" not in robot.last:
        robot.hear("tip", "/robot/truth/tip", VectorStamped)
    assert robot.set("seed", seed).successful
    start = PegPolicy(np.random.default_rng([seed, 1])).start_pose()
    robot.wait(lambda: "tip" in robot.last and robot.last["tip"].values[:4] == pytest.approx(start, abs=1e-4), "start")
    tip = robot.last["tip"]
    assert (tip.header.frame_id, len(tip.values), tip.values[4]) == ("hole", 5, 0.0)


def test_a_client_that_sends_nonsense_does_not_end_it(robot: Watcher) -> None:
    robot.wait(robot._set.service_is_ready, "the robot's parameters")
    robot._set.call_async(
        SetParameters.Request(parameters=[ParameterMessage(name="rgb.fault", value=ParameterValue(type=77))])
    )
    robot.wait_for("rgb", 10)


def test_commands_are_refused_each_reason_is_told_and_the_robot_stands_still(robot: Watcher) -> None:
    commands = robot.node.create_publisher(TwistStamped, "command", QoSProfile(depth=1))
    robot.wait(lambda: commands.get_subscription_count() > 0, "the robot's ear for commands")
    bad = TwistStamped()
    bad.twist.linear.x = 1e9
    commands.publish(bad)
    robot.wait(lambda: "found [1.e+09" in robot.log.read_text(), "a warning")
    bad.twist.linear.x = float("nan")
    commands.publish(bad)
    robot.wait(lambda: "found [nan" in robot.log.read_text(), "another warning, at once")
    assert "the robot stands still" in robot.log.read_text()
    robot.wait_for("action", 3)
    assert robot.last["action"].twist.linear.x == 0.0

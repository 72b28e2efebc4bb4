"""The simulated robot as a process: its topics, its parameters, its commands, and how it ends."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
import rclpy
from ament_index_python.packages import get_package_prefix
from geometry_msgs.msg import TwistStamped
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterValue, SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo
from smvae_ros.msg import Latent

from smvae_ros.simulated_robot.node import TOPICS

from ..robot import FusionProcess, own_domain

pytestmark = pytest.mark.rendering

PATIENCE_S = 60.0


class Watcher:
    """The simulated robot as a process, and everything that it publishes."""

    def __init__(self, domain: int, log: Path, **parameters: Any) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = Node("watcher", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.count: Counter[str] = Counter()
        self.last: dict[str, Any] = {}
        for name, (topic, kind) in {
            **TOPICS,
            "info": ("rgb/camera_info", CameraInfo),
            "clock": ("/clock", Clock),
        }.items():
            self.hear(name, topic, kind)
        self._set = self.node.create_client(SetParameters, "/robot/set_parameters")
        self.log = log
        executable = Path(get_package_prefix("smvae_ros")) / "lib" / "smvae_ros" / "simulated_robot"
        arguments = [
            word for name, value in parameters.items() for word in ("-p", f"{name.replace('__', '.')}:={value}")
        ]
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [str(executable), "--ros-args", *arguments], stdout=file, stderr=file, stdin=subprocess.DEVNULL
            )

    def hear(self, name: str, topic: str, kind: type) -> None:
        def take(message: Any) -> None:
            self.count[name] += 1
            self.last[name] = message

        self.node.create_subscription(kind, topic, take, qos_profile_sensor_data)

    def wait(self, ready: Callable[[], bool], wanted: str) -> None:
        deadline = monotonic() + PATIENCE_S
        while not ready():
            assert self.process.poll() is None, self.log.read_text()
            assert monotonic() < deadline, f"waited for {wanted}: {self.log.read_text()}"
            self._executor.spin_once(timeout_sec=0.05)

    def wait_for(self, name: str, count: int = 1) -> Any:
        wanted = self.count[name] + count
        self.wait(lambda: self.count[name] >= wanted, f"{count} of {name}")
        return self.last[name]

    def set(self, name: str, value: Any) -> SetParametersResult:
        return self.call(Parameter(name, value=value).to_parameter_msg())

    def call(self, parameter: ParameterMessage) -> SetParametersResult:
        self.wait(self._set.service_is_ready, "the robot's parameters")
        answer = self._set.call_async(SetParameters.Request(parameters=[parameter]))
        self.wait(answer.done, f"an answer about {parameter.name}")
        return answer.result().results[0]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        # In this order: rclpy has crashed where a node was destroyed that an executor still knew.
        self._executor.remove_node(self.node)
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)


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
        ("wrench.rate", -1.0, ".*"),
        ("depth.encoding", "yuv", "depth.encoding: expected one of 32FC1, 16UC1, found 'yuv'"),
        ("image_size", 3, "image_size: expected 16 to 2048, found 3"),
    ],
)
def test_a_bad_parameter_is_refused_with_the_reason(robot: Watcher, name: str, value: Any, reason: str) -> None:
    result = robot.set(name, value)
    assert not result.successful
    assert re.fullmatch(reason, result.reason)
    robot.wait_for("rgb")


def test_a_client_that_sends_nonsense_does_not_end_it(robot: Watcher) -> None:
    robot.wait(robot._set.service_is_ready, "the robot's parameters")
    robot._set.call_async(
        SetParameters.Request(parameters=[ParameterMessage(name="rgb.fault", value=ParameterValue(type=77))])
    )
    robot.wait_for("rgb", 10)


def test_a_command_of_nan_is_refused_and_the_robot_stands_still(robot: Watcher) -> None:
    commands = robot.node.create_publisher(TwistStamped, "command", QoSProfile(depth=1))
    robot.wait(lambda: commands.get_subscription_count() > 0, "the robot's ear for commands")
    bad = TwistStamped()
    bad.twist.linear.x = float("nan")
    commands.publish(bad)
    robot.wait(lambda: "found [nan" in robot.log.read_text(), "a warning")
    assert "the robot stands still" in robot.log.read_text()
    robot.wait_for("action", 3)
    assert robot.last["action"].twist.linear.x == 0.0


def test_sigint_ends_it_with_exit_code_0(domain: int, tmp_path: Path) -> None:
    watcher = Watcher(domain, tmp_path / "log")
    try:
        watcher.wait_for("rgb")
        watcher.process.send_signal(signal.SIGINT)
        watcher.process.send_signal(signal.SIGTERM)
        assert watcher.process.wait(PATIENCE_S) == 0
    finally:
        watcher.close()


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("rgb.fault:=broken", "error: rgb.fault: expected one of none, unplugged"),
        ("policy:=sleep", "error: policy: expected one of scripted, commands, found 'sleep'"),
        ("rgb.rate:=fast", "rgb.rate"),
    ],
)
def test_a_bad_argument_is_one_sentence(argument: str, told: str) -> None:
    done = start("-p", argument)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert told in done.stderr


def test_without_mujoco_it_says_what_to_install() -> None:
    blocked = "import sys; sys.modules['mujoco'] = None; from smvae_ros.simulated_robot.process import main; main()"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2
    assert "the simulator needs MuJoCo, which is not installed: pip install" in done.stderr


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    executable = Path(get_package_prefix("smvae_ros")) / "lib" / "smvae_ros" / "simulated_robot"
    command = [str(executable), "--ros-args", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=dict(os.environ))


def test_the_fusion_node_goes_on_while_the_camera_is_unplugged(domain: int, tmp_path: Path) -> None:
    watcher = Watcher(domain, tmp_path / "robot.log")
    fusion = FusionProcess(tmp_path / "fusion.log", {})
    try:
        watcher.hear("latent", "/fusion/latent", Latent)
        watcher.wait(lambda: "rgb" in getattr(watcher.last.get("latent"), "modalities", []), "a set with rgb")
        assert watcher.set("rgb.fault", "unplugged").successful
        watcher.wait(lambda: "rgb" not in watcher.last["latent"].modalities, "a set without rgb")
        assert "depth" in watcher.wait_for("latent", 5).modalities
        assert watcher.set("rgb.fault", "none").successful
        watcher.wait(lambda: "rgb" in watcher.last["latent"].modalities, "rgb again")
    finally:
        fusion.kill()
        watcher.close()

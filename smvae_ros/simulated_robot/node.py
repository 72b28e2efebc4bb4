"""The simulated robot as a ROS 2 node: its topics, its commands, and its parameters, faults among them."""

from __future__ import annotations

from time import time_ns
from typing import Any

import numpy as np
from geometry_msgs.msg import TwistStamped, WrenchStamped
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState

from smvae_core.errors import ConfigurationError
from smvae_core.simulation.shapes import PEGS
from smvae_ros.msg import VectorStamped
from smvae_ros.node.repeated_warnings import RepeatedWarnings
from smvae_ros.overrides import declare
from smvae_ros.simulated_robot import messages
from smvae_ros.simulated_robot.faults import IMAGE_FAULTS, NUMBER_FAULTS
from smvae_ros.simulated_robot.robot import CommandError, Sample, SimulatedRobot

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # not among the wheels of ROS 2 on PyPI
    TFMessage = None

TOPICS: dict[str, tuple[str, type]] = {
    "rgb": ("rgb/image", Image),
    "depth": ("depth/image", Image),
    "wrench": ("wrench", WrenchStamped),
    "joints": ("joint_states", JointState),
    "action": ("action", TwistStamped),
}
"""Topic and message type of each sensor; `action` is the command that the arm carries out."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "policy": ("scripted", "commands"),
    "peg": PEGS,
    "rgb.encoding": tuple(messages.COLOUR_ENCODINGS),
    "depth.encoding": messages.DEPTH_ENCODINGS,
    **{f"{name}.fault": IMAGE_FAULTS if name in ("rgb", "depth") else NUMBER_FAULTS for name in TOPICS},
}
_DEFAULTS: dict[str, Any] = {
    "policy": "scripted",
    "peg": "triangle",
    "seed": 0,
    "publish_clock": False,
    "image_size": 128,
    "rgb.encoding": "rgb8",
    "depth.encoding": "32FC1",
    **{f"{name}.fault": "none" for name in TOPICS},
    **{f"{name}.noise": 0.0 for name in TOPICS},
    "rgb.rate": 20.0,
    "depth.rate": 20.0,
    "wrench.rate": 1000.0,
    "joints.rate": 100.0,
}
_READ_ONLY = ("policy", "peg", "publish_clock")
_RANGES = {
    # The robot looks every 5 ms whether a picture or the joints are due, and every millisecond for the wrench.
    **{f"{name}.rate": (0.0, 1000.0 if name == "wrench" else 200.0) for name in TOPICS},
    **{f"{name}.noise": (0.0, 1e3) for name in TOPICS},
    "image_size": (16, 2048),
    "seed": (0, 2**31 - 1),
}


class SimulatedRobotNode(Node):
    """Publishes what a robot with two cameras, a wrist sensor and joint encoders would, and can make each sensor fail.

    `~/truth/rgb` and `~/truth/depth` are the pictures without fault or noise, for whoever judges predictions, and
    `~/truth/tip` is where the peg's tip is, for whoever judges what moves it. Parameters are described by
    `ros2 param describe`; faults, rates, noise, encodings and `image_size` change while it runs, and setting `seed`
    begins anew.

    Raises:
        ConfigurationError: a parameter with a value that the robot does not know.
        SimulationError: MuJoCo is not installed, or it cannot draw off-screen.
    """

    def __init__(self) -> None:
        super().__init__("robot")
        try:
            declare(self, [(name, default, _descriptor(name)) for name, default in _DEFAULTS.items()])
            if problem := _problem(list(self.get_parameters(list(_DEFAULTS)))):
                raise ConfigurationError(problem)
        except ConfigurationError:
            self.destroy_node()
            raise
        self.add_on_set_parameters_callback(self._validate)
        self.add_post_set_parameters_callback(self._apply)
        self._size, self._encodings = 0, {"rgb": "", "depth": ""}
        best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        fast = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._publishers_of = {
            name: self.create_publisher(kind, topic, fast if name == "wrench" else best_effort)
            for name, (topic, kind) in TOPICS.items()
        }
        self._infos = {
            name: self.create_publisher(CameraInfo, f"{name}/camera_info", best_effort) for name in ("rgb", "depth")
        }
        self._truths = {name: self.create_publisher(Image, f"~/truth/{name}", best_effort) for name in ("rgb", "depth")}
        self._truths["tip"] = self.create_publisher(VectorStamped, "~/truth/tip", QoSProfile(depth=100))
        self._clock_publisher = (
            self.create_publisher(Clock, "/clock", QoSProfile(depth=1)) if self._value("publish_clock") else None
        )
        self._tf = self._frames_publisher()
        self.robot = SimulatedRobot(
            self._publish,
            self._publish_truth,
            self._publish_clock,
            follow=self._value("policy") == "commands",
            seed=self._value("seed"),
            peg=self._value("peg"),
        )
        # It begins with this seed already.
        self._apply([one for one in self.get_parameters(list(_DEFAULTS)) if one.name != "seed"])
        if self._value("policy") == "commands":
            self.create_subscription(TwistStamped, "command", self._take_command, QoSProfile(depth=1))
        self._skipped_ns = 0
        self._warnings = RepeatedWarnings(self.get_logger().warning)
        self.create_timer(1.0, self._report)

    def start(self) -> None:
        """Begin to move.

        Raises:
            SimulationError: MuJoCo is not installed, or it cannot draw off-screen.
        """
        self.robot.start()
        self.get_logger().info(
            f"moves by {'its own policy' if self._value('policy') == 'scripted' else 'the topic command'}; "
            "make a sensor fail with: ros2 param set /robot rgb.fault unplugged"
        )

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _validate(self, parameters: list[Parameter]) -> SetParametersResult:
        problem = _problem(parameters)
        return SetParametersResult(successful=not problem, reason=problem)

    def _apply(self, parameters: list[Parameter]) -> None:
        for parameter in parameters:
            owner, _, key = parameter.name.rpartition(".")
            if parameter.name == "image_size":
                self._size = parameter.value
            elif parameter.name == "seed":
                self.robot.begin(parameter.value)
            elif key == "encoding":
                self._encodings[owner] = parameter.value
            elif key == "rate":
                setattr(self.robot.rates, owner, parameter.value)
            elif key in ("fault", "noise"):
                setattr(self.robot.sensors.named(owner), key, parameter.value)

    def _take_command(self, message: TwistStamped) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        try:
            self.robot.command(
                np.array([linear.x, linear.y, linear.z, angular.z]), tilt=np.array([angular.x, angular.y])
            )
        except CommandError as error:
            self._warnings.warn(error.expected, str(error))

    def _publish(self, sample: Sample) -> None:
        message = messages.message_of(sample.sensor, sample.stamp_ns, sample.value, self._encodings, self._size)
        self._publishers_of[sample.sensor].publish(message)
        if sample.sensor in self._infos:
            self._infos[sample.sensor].publish(messages.camera_info(sample.stamp_ns, self._size))
        if sample.sensor == "rgb" and self._tf is not None:
            frames = self.robot.frames.items()
            moved = [messages.transform(sample.stamp_ns, messages.BASE, name, *pose) for name, pose in frames]
            self._tf.publish(TFMessage(transforms=moved))

    def _publish_truth(self, sample: Sample) -> None:
        publisher = self._truths[sample.sensor]
        if publisher.get_subscription_count():
            plain = {"rgb": "rgb8", "depth": "32FC1"}
            publisher.publish(
                messages.message_of(sample.sensor, sample.stamp_ns, sample.value, plain, len(sample.value))
            )

    def _publish_clock(self, now_ns: int) -> None:
        if self._clock_publisher is not None:
            self._clock_publisher.publish(Clock(clock=messages.header(now_ns, "").stamp))

    def _frames_publisher(self) -> Any:
        if TFMessage is None:
            self.get_logger().warning("publishes no frames: tf2_msgs is not installed")
            return None
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        static = self.create_publisher(TFMessage, "/tf_static", latched)
        static.publish(TFMessage(transforms=[messages.camera_transform(time_ns())]))
        return self.create_publisher(TFMessage, "/tf", QoSProfile(depth=100))

    def _report(self) -> None:
        skipped, self._skipped_ns = self.robot.skipped_ns - self._skipped_ns, self.robot.skipped_ns
        if skipped:
            self.get_logger().warning(
                f"the machine is too slow for real time: {skipped / 1e9:.1f} s were left out; "
                "lower rgb.rate and depth.rate",
                throttle_duration_sec=10.0,
            )


def _descriptor(name: str) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(read_only=name in _READ_ONLY)
    if name in _CHOICES:
        descriptor.description = f"One of {', '.join(_CHOICES[name])}."
    elif name == "seed":
        descriptor.description = "Of every random choice. Setting it puts the arm at this seed's start, to begin anew."
    key = name.rpartition(".")[2]
    if key in ("rate", "noise"):
        low, high = _RANGES[name]
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        descriptor.description = {"rate": "Messages per second.", "noise": "Standard deviation, sensor units."}[key]
    return descriptor


def _problem(parameters: list[Parameter]) -> str:
    """Return what is wrong with the first bad parameter, or an empty string."""
    for parameter in parameters:
        name, value = parameter.name, parameter.value
        choices = _CHOICES.get(name)
        if choices is not None and value not in choices:
            return f"{name}: expected one of {', '.join(choices)}, found '{value}'"
        low, high = _RANGES.get(name, (None, None))
        if low is not None and high is not None and not low <= value <= high:
            return f"{name}: expected {low:g} to {high:g}, found {value:g}"
    return ""

"""Robots with other senses than the usual four: their modalities, untrained models and messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from geometry_msgs.msg import TwistStamped, WrenchStamped
from rclpy.qos import QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import Image, JointState
from smvae_ros.msg import VectorStamped
from std_msgs.msg import Header

from smvae_core.checkpoint import save
from smvae_core.modality import Modality
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE
from smvae_core.preprocessing import RGB, Depth, Force, Vector
from smvae_ros.conversions.arrays import fill_image, fill_wrench

from .robot import STEP_S, Robot, colours

_COLOUR = colours()
_METRES = np.full((48, 64), 1.0, np.float32)
FORCE_BACK = 15
"""Samples of a force window before its newest."""


def camera(name: str) -> Modality:
    """A colour camera."""
    return Modality(name=name, source=name, preprocessing=RGB(), network="image", likelihood="bernoulli")


def numbers(name: str, size: int) -> Modality:
    """A vector."""
    return Modality(name=name, source=name, preprocessing=Vector(size=size), network="vector", likelihood="normal")


DEPTH = Modality(name="depth", source="depth", preprocessing=Depth(), network="image", likelihood="bernoulli")
FORCE = Modality(name="force", source="force", preprocessing=Force(window=16), network="sequence", likelihood="normal")
SIX = (camera("left"), camera("right"), DEPTH, FORCE, numbers("action", 4), numbers("joints", 7))
"""Two cameras, depth, force, action, joint state."""
THREE = (camera("scene"), numbers("tactile", 11), numbers("hand", 3))
"""A camera, a tactile array, a hand."""
JOINTS_MESSAGE = {"streams.joints.message": "sensor_msgs/msg/JointState"}


def tiny_checkpoint(path: Path, modalities: tuple[Modality, ...]) -> Path:
    """An untrained model of the smallest size."""
    torch.manual_seed(0)
    model = MultimodalVAE(ModelConfiguration(size="tiny", modalities=modalities))
    save(path, model, {m.name: torch.full(m.shape, 0.25) for m in modalities}, training=None, metrics=None)
    return path


def messages(name: str, stamp_ns: int) -> list[Any]:
    """What the sensor of a modality sends in one moment; of a force sensor a whole window, 3 ms apart."""
    header = Header(stamp=Time(nanoseconds=stamp_ns).to_msg(), frame_id=f"{name}_frame")
    if name in ("left", "right", "scene", "depth"):
        message = Image(header=header)
        fill_image(message, _METRES if name == "depth" else _COLOUR)
    elif name == "force":
        window = []
        for back in range(FORCE_BACK, -1, -1):
            stamp = Time(nanoseconds=stamp_ns - back * 3_000_000).to_msg()
            wrench = WrenchStamped(header=Header(stamp=stamp, frame_id="force_frame"))
            fill_wrench(wrench, np.full(6, 0.1 * back))
            window.append(wrench)
        return window
    elif name == "action":
        message = TwistStamped(header=header)
    elif name == "joints":
        message = JointState(header=header, name=[f"joint{i}" for i in range(7)], position=[0.1 * i for i in range(7)])
    else:
        message = VectorStamped(header=header, values=[0.5] * {"tactile": 11, "hand": 3}[name])
    return [message]


class Senses:
    """Sends every 50 ms, on a robot's node, what is in `sending`; each modality's topic is given."""

    def __init__(self, robot: Robot, topics: dict[str, str]) -> None:
        self._publishers = {
            name: robot.node.create_publisher(type(messages(name, 1_000_000_000)[0]), topic, QoSProfile(depth=50))
            for name, topic in topics.items()
        }
        self._node = robot.node
        self.sending = set(topics)
        self._timer = robot.node.create_timer(STEP_S, self._send)

    def _send(self) -> None:
        stamp_ns = self._node.get_clock().now().nanoseconds
        # The first camera last: it is the reference.
        for name in reversed(self._publishers):
            if name in self.sending:
                for message in messages(name, stamp_ns):
                    self._publishers[name].publish(message)

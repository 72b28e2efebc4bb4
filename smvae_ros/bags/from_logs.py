"""Bags from Vision&Touch trajectories."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from smvae_core.data.formats.protocol import Trajectory
from smvae_core.data.formats.vision_touch import find_trajectories, read_part
from smvae_ros.bags.reading import BagError

STEP_NS = 50_000_000
"""Time between two steps of a log: 20 Hz."""
STEPS_PER_PART = 50
"""Number of steps that a missing part of a trajectory is assumed to have had."""

_START = re.compile(r"^(\d{8}_\d{6})_")
_JAZZY = get_typestore(Stores.ROS2_JAZZY)
_KEYS = ("image", "depth_data", "ee_forces_continuous", "action")


def write_bag(trajectory: Trajectory, out: Path, fov: float, on_step: Callable[[], None] = lambda: None) -> int:
    """Write a trajectory, whole or not at all, as a rosbag2 folder (MCAP, zstd) that `ros2 bag play` accepts.

    Topics: /rgb/image (rgb8), /depth/image (16UC1, millimetres), /depth/camera_info, /wrench (1 kHz), /action. A step
    ends 50 ms after the step before; that is the stamp of its images, of its newest force sample and of the command
    that follows. The first step starts at the date in the log's name (UTC). The receive time is the stamp.

    Args:
        fov: vertical opening of the camera in degrees, which the logs do not contain.
        on_step: called after each step, for progress.

    Returns:
        The number of messages.

    Raises:
        LogError: a file of the trajectory cannot be read.
        BagError: `out` exists already or cannot be written.
    """
    if out.exists():
        raise BagError(f"{out}: exists already; give another name or remove it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            whole = Path(folder) / out.name
            writer = Writer(whole, version=9, storage_plugin=StoragePlugin.MCAP)
            writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            with writer:
                written = _write_steps(writer, trajectory, fov, on_step)
            whole.rename(out)
    except OSError as error:
        raise BagError(f"{out}: cannot be written ({error.strerror})") from None
    return written


def pick_trajectory(log: Path, name: str | None = None) -> Trajectory:
    """Return the trajectory that a log file is part of, with the other parts beside it; or one of a folder, by name.

    Raises:
        LogError: there is no log.
        BagError: the folder has several trajectories and no name is given, or the name is none of theirs.
    """
    trajectories = find_trajectories(log.parent if log.is_file() else log)
    if log.is_file():
        chosen = [trajectory for trajectory in trajectories if log in (path for _, path in trajectory.parts)]
        chosen = chosen or find_trajectories(log)
    else:
        chosen = trajectories
    if name is not None:
        chosen = [trajectory for trajectory in chosen if trajectory.name == name]
    if len(chosen) == 1:
        return chosen[0]
    names = [trajectory.name for trajectory in trajectories]
    listed = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    raise BagError(f"{log}: expected the name of one trajectory among {listed}, found {name or 'none'}")


def _write_steps(writer: Writer, trajectory: Trajectory, fov: float, on_step: Callable[[], None]) -> int:
    messages = _Messages(writer, fov)
    now_ns = _start_ns(trajectory)
    previous_number = None
    command_ns = None
    for number, path in trajectory.parts:
        steps = read_part(path, _KEYS)
        if previous_number is not None and number > previous_number + 1:
            now_ns += (number - previous_number - 1) * STEPS_PER_PART * STEP_NS
            command_ns = None
        previous_number = number
        for image, depth, forces, action in zip(*(steps[key] for key in _KEYS)):
            # A log has the command beside the step that it drove; it was given at the end of the step before.
            if command_ns is not None:
                messages.action(command_ns, action)
            spacing_ns = STEP_NS // max(1, len(forces))
            now_ns += STEP_NS
            for back, row in zip(range(len(forces) - 1, -1, -1), forces):
                messages.wrench(now_ns - back * spacing_ns, row)
            messages.depth(now_ns, depth[..., 0])
            messages.rgb(now_ns, image)
            command_ns = now_ns
            on_step()
    return messages.written


def _start_ns(trajectory: Trajectory) -> int:
    match = _START.match(trajectory.parts[0][1].name)
    try:
        start = datetime.strptime(match[1] if match else "", "%Y%m%d_%H%M%S")
    except ValueError:
        return 0
    return int(start.replace(tzinfo=timezone.utc).timestamp()) * 1_000_000_000


class _Messages:
    """The topics of a bag that is being written."""

    def __init__(self, writer: Writer, fov: float) -> None:
        self.written = 0
        self._writer, self._fov = writer, fov
        self._types = _JAZZY.types
        self._connections = {
            topic: writer.add_connection(topic, msgtype, typestore=_JAZZY)
            for topic, msgtype in (
                ("/rgb/image", "sensor_msgs/msg/Image"),
                ("/depth/image", "sensor_msgs/msg/Image"),
                ("/depth/camera_info", "sensor_msgs/msg/CameraInfo"),
                ("/wrench", "geometry_msgs/msg/WrenchStamped"),
                ("/action", "geometry_msgs/msg/TwistStamped"),
            )
        }

    def rgb(self, stamp_ns: int, image: np.ndarray) -> None:
        self._image("/rgb/image", stamp_ns, "rgb8", image)

    def depth(self, stamp_ns: int, metres: np.ndarray) -> None:
        # Millimetres take half the space of metres as floats; 0 is no reading.
        millimetres = np.nan_to_num(metres.astype(np.float64) * 1000.0, nan=0.0, posinf=0.0, neginf=0.0)
        self._image("/depth/image", stamp_ns, "16UC1", np.rint(millimetres.clip(0, 65535)).astype("<u2"))
        height, width = metres.shape
        focal = height / 2 / math.tan(math.radians(self._fov) / 2)
        k = [focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0]
        p = [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
        camera_info = self._types["sensor_msgs/msg/CameraInfo"](
            header=self._header(stamp_ns, "camera"),
            height=height,
            width=width,
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=np.array(k),
            r=np.eye(3).ravel(),
            p=np.array(p),
            binning_x=0,
            binning_y=0,
            roi=self._types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
        )
        self._write("/depth/camera_info", stamp_ns, camera_info)

    def wrench(self, stamp_ns: int, row: np.ndarray) -> None:
        vector = self._types["geometry_msgs/msg/Vector3"]
        wrench = self._types["geometry_msgs/msg/Wrench"](vector(*map(float, row[:3])), vector(*map(float, row[3:])))
        message = self._types["geometry_msgs/msg/WrenchStamped"](self._header(stamp_ns, "wrist"), wrench)
        self._write("/wrench", stamp_ns, message)

    def action(self, stamp_ns: int, row: np.ndarray) -> None:
        x, y, z, yaw = map(float, row)
        vector = self._types["geometry_msgs/msg/Vector3"]
        twist = self._types["geometry_msgs/msg/Twist"](vector(x, y, z), vector(0.0, 0.0, yaw))
        message = self._types["geometry_msgs/msg/TwistStamped"](self._header(stamp_ns, "base"), twist)
        self._write("/action", stamp_ns, message)

    def _image(self, topic: str, stamp_ns: int, encoding: str, pixels: np.ndarray) -> None:
        pixels = np.ascontiguousarray(pixels)
        message = self._types["sensor_msgs/msg/Image"](
            header=self._header(stamp_ns, "camera"),
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=pixels.strides[0],
            data=pixels.reshape(-1).view(np.uint8),
        )
        self._write(topic, stamp_ns, message)

    def _header(self, stamp_ns: int, frame: str) -> Any:
        stamp = self._types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 1_000_000_000))
        return self._types["std_msgs/msg/Header"](stamp, frame)

    def _write(self, topic: str, stamp_ns: int, message: Any) -> None:
        connection = self._connections[topic]
        self._writer.write(connection, stamp_ns, _JAZZY.serialize_cdr(message, connection.msgtype))
        self.written += 1

"""ROS 2 messages of what the simulated robot's sensors bring. Frames follow REP-103."""

from __future__ import annotations

import math
import sys
from array import array
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import Quaternion, TransformStamped, TwistStamped, Vector3, WrenchStamped
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header

from smvae_core.simulation.scene import JOINTS, SceneLook
from smvae_ros.conversions.arrays import fill_twist, fill_wrench
from smvae_ros.msg import VectorStamped

BASE, WRIST, TOOL, CAMERA = "base", "wrist", "tool", "camera_optical_frame"
"""Frames of the arm's foot, of the wrench, of the command, and of both cameras (z forward, x right, y down)."""
HOLE = "hole"
"""Frame of the tip's truth: the middle of the hole's mouth, with the axes of `BASE`."""

COLOUR_ENCODINGS = {
    "rgb8": None,
    "bgr8": cv2.COLOR_RGB2BGR,
    "rgba8": cv2.COLOR_RGB2RGBA,
    "bgra8": cv2.COLOR_RGB2BGRA,
    "mono8": cv2.COLOR_RGB2GRAY,
}
DEPTH_ENCODINGS = ("32FC1", "16UC1")


def header(stamp_ns: int, frame: str) -> Header:
    """Return a header of that time and frame."""
    message = Header(frame_id=frame)
    message.stamp.sec, message.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    return message


def colour_image(stamp_ns: int, picture: np.ndarray, encoding: str, size: int) -> Image:
    """Return uint8 (H, W, 3) RGB as a square image of `size` pixels in one of `COLOUR_ENCODINGS`."""
    if len(picture) != size:
        picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_LINEAR)
    code = COLOUR_ENCODINGS[encoding]
    return _image(stamp_ns, picture if code is None else cv2.cvtColor(picture, code), encoding)


def depth_image(stamp_ns: int, metres: np.ndarray, encoding: str, size: int) -> Image:
    """Return float32 (H, W) metres as a square image of `size` pixels in one of `DEPTH_ENCODINGS`."""
    if len(metres) != size:
        metres = cv2.resize(metres, (size, size), interpolation=cv2.INTER_NEAREST)
    pixels = metres if encoding == "32FC1" else np.rint(metres * 1000.0).clip(0, 65535).astype(np.uint16)
    return _image(stamp_ns, pixels, encoding)


def camera_info(stamp_ns: int, size: int) -> CameraInfo:
    """Return the pinhole of both cameras for square images of `size` pixels."""
    focal = size / 2 / math.tan(math.radians(SceneLook.camera_fov) / 2)
    k = [focal, 0.0, size / 2, 0.0, focal, size / 2, 0.0, 0.0, 1.0]
    return CameraInfo(
        header=header(stamp_ns, CAMERA),
        height=size,
        width=size,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=k,
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0],
    )


def wrench(stamp_ns: int, row: np.ndarray) -> WrenchStamped:
    """Return (6,), N and N·m on the peg, as a message."""
    message = WrenchStamped(header=header(stamp_ns, WRIST))
    fill_wrench(message, row)
    return message


def twist(stamp_ns: int, row: np.ndarray) -> TwistStamped:
    """Return a command (4,), metres and radians for 50 ms, as a message."""
    message = TwistStamped(header=header(stamp_ns, BASE))
    fill_twist(message, row)
    return message


def joint_state(stamp_ns: int, row: np.ndarray) -> JointState:
    """Return positions and velocities (14,) of the seven joints, with their names."""
    return JointState(
        header=header(stamp_ns, BASE),
        name=list(JOINTS),
        position=array("d", row[:7]),
        velocity=array("d", row[7:]),
    )


def tip(stamp_ns: int, row: np.ndarray) -> VectorStamped:
    """Return x, y, z in metres, yaw in radians, and whether the peg touched, (5,), as a message."""
    return VectorStamped(header=header(stamp_ns, HOLE), values=array("d", row))


def camera_transform(stamp_ns: int) -> TransformStamped:
    """Return where the cameras' optical frame stands in the frame of the arm's foot."""
    look = SceneLook()
    position = np.array(look.camera_position)
    forward = np.array(look.camera_target) - position
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    return transform(stamp_ns, BASE, CAMERA, position, _quaternion(np.column_stack([right, down, forward])))


def transform(stamp_ns: int, parent: str, child: str, position: np.ndarray, quaternion: np.ndarray) -> TransformStamped:
    """Return where `child` stands in `parent`: position (3,) in metres, quaternion (4,) as w x y z."""
    message = TransformStamped(header=header(stamp_ns, parent), child_frame_id=child)
    w, x, y, z = map(float, quaternion)
    message.transform.translation = Vector3(**dict(zip("xyz", map(float, position))))
    message.transform.rotation = Quaternion(x=x, y=y, z=z, w=w)
    return message


def _image(stamp_ns: int, pixels: np.ndarray, encoding: str) -> Image:
    pixels = np.ascontiguousarray(pixels)
    data = array("B")
    data.frombytes(pixels.tobytes())
    return Image(
        header=header(stamp_ns, CAMERA),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=pixels.strides[0],
        data=data,
    )


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """Return the quaternion (w, x, y, z) of a rotation matrix (3, 3)."""
    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([w, x, y, z])


def message_of(sensor: str, stamp_ns: int, value: np.ndarray, encodings: dict[str, str], size: int) -> Any:
    """Return a sample of any sensor as a message; images in the encoding that `encodings` names for the sensor."""
    if sensor == "rgb":
        return colour_image(stamp_ns, value, encodings["rgb"], size)
    if sensor == "depth":
        return depth_image(stamp_ns, value, encodings["depth"], size)
    return {"wrench": wrench, "action": twist, "joints": joint_state, "tip": tip}[sensor](stamp_ns, value)

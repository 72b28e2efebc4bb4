"""Recordings for the commands of the pages."""

from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

_STEP_NS, _STEPS, _START_NS = 50_000_000, 24, 1_767_600_000_000_000_000
_TOPICS = {
    "/wrist_camera/color/image_raw": "sensor_msgs/msg/Image",
    "/camera/aligned_depth_to_color/image_raw": "sensor_msgs/msg/Image",
    "/joint_states": "sensor_msgs/msg/JointState",
    "/camera/color/image_raw": "sensor_msgs/msg/Image",
}


def write_two_camera_bag(path: Path) -> None:
    """Write the recording of the worked example in docs/your-robot.md: two cameras, depth and seven joints.

    It has 1.2 s at 20 Hz; the depth camera is silent for a third of it, which makes three trajectories.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    random = np.random.default_rng(0)
    path.parent.mkdir(exist_ok=True)
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {t: writer.add_connection(t, kind, typestore=store) for t, kind in _TOPICS.items()}
        for step in range(_STEPS):
            stamp_ns = _START_NS + step * _STEP_NS
            for topic, connection in connections.items():
                if "depth" not in topic or not 8 <= step < 16:
                    message = _message(store.types, random, topic, stamp_ns)
                    writer.write(connection, stamp_ns, store.serialize_cdr(message, connection.msgtype))


def write_thinned(recording: Path, out: Path, every: int = 10) -> None:
    """Copy the shipped recording with each tenth of its steps of 50 ms, over its whole length."""
    out.parent.mkdir(exist_ok=True)
    with AnyReader([recording]) as reader, Writer(out, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            connection.topic: writer.add_connection(connection.topic, connection.msgtype, typestore=reader.typestore)
            for connection in reader.connections
        }
        for connection, time_ns, content in reader.messages():
            # A step is seen at its end, after its 50 wrenches.
            step = -((reader.start_time - time_ns) // _STEP_NS)
            if step % every == 1:
                writer.write(connections[connection.topic], time_ns, content)


def _message(types: Any, random: np.random.Generator, topic: str, stamp_ns: int) -> Any:
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9)), "robot")
    if topic == "/joint_states":
        empty = np.zeros(0)
        names = [f"joint{number}" for number in range(7)]
        return types["sensor_msgs/msg/JointState"](header, names, random.normal(size=7), empty, empty)
    if "depth" in topic:
        pixels, encoding = random.integers(500, 1500, (48, 64)).astype("<u2"), "16UC1"
    else:
        pixels, encoding = random.integers(0, 256, (48, 64, 3), dtype=np.uint8), "rgb8"
    return types["sensor_msgs/msg/Image"](
        header=header,
        height=48,
        width=64,
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=pixels.reshape(-1).view(np.uint8),
    )

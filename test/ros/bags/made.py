"""Small bags made for a test: joint states on two topics, and channels that hold no ROS 2 messages."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from smvae_core.modality import Modality
from smvae_core.preprocessing import Vector
from smvae_ros.settings import FusionSettings, default_settings

TYPES = get_typestore(Stores.ROS2_JAZZY)
JOINT_STATE = "sensor_msgs/msg/JointState"
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
ARM, HAND = (
    Modality(name=name, source=name, preprocessing=Vector(size=2), network="vector", likelihood="normal")
    for name in ("arm", "hand")
)

Timed = tuple[str, int, bytes]
"""Topic, receive time and content of a message."""


def settings(**changes: Any) -> FusionSettings:
    """Sets that an arm opens and a hand joins, both by JointState."""
    streams = {name: {"topic": name, "message": JOINT_STATE} for name in ("arm", "hand")}
    return default_settings([ARM, HAND]).changed({"reference": "arm", "streams": streams}).changed(changes)


def joints(
    stamp_ns: int, positions: Sequence[float] = (0.1, 0.2), names: Sequence[str] = (), frame: str = "base"
) -> bytes:
    """A serialised JointState."""
    types = TYPES.types
    stamp = types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 1_000_000_000))
    none = np.zeros(0)
    header = types["std_msgs/msg/Header"](stamp, frame)
    message = types[JOINT_STATE](header, list(names), np.array(positions, np.float64), none, none)
    return bytes(TYPES.serialize_cdr(message, JOINT_STATE))


def steady(topic: str, count: int, period_ms: int = 50, start_ms: int = 0) -> list[Timed]:
    """Joint states at a steady rate, received as stamped."""
    stamps = [START_NS + (start_ms + n * period_ms) * MS for n in range(count)]
    return [(topic, stamp, joints(stamp)) for stamp in stamps]


def write(path: Path, messages: Iterable[Timed], plugin: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """Write joint states as a bag, in the order of their receive times."""
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        topics = dict.fromkeys(("/arm", "/hand", *(message[0] for message in messages)))
        connections = {topic: writer.add_connection(topic, JOINT_STATE, typestore=TYPES) for topic in topics}
        for topic, receive_ns, content in sorted(messages, key=lambda message: message[1]):
            writer.write(connections[topic], receive_ns, content)
    return path


def write_mixed(path: Path, messages: Iterable[Timed], foreign: dict[str, tuple[str, bytes, str]]) -> Path:
    """Write joint states beside other channels as one MCAP file.

    Args:
        foreign: by topic, encoding and content of the schema, and encoding of the messages; an empty encoding of the
            schema is no schema.
    """
    definition, _ = TYPES.generate_msgdef(JOINT_STATE)
    with path.open("wb") as stream:
        writer = McapWriter(stream)
        writer.start(profile="ros2")
        schema = writer.register_schema(JOINT_STATE, "ros2msg", definition.encode())
        channels = {topic: writer.register_channel(topic, "cdr", schema) for topic in ("/arm", "/hand")}
        for topic, (encoding, content, message_encoding) in foreign.items():
            number = writer.register_schema("lab.Other", encoding, content) if encoding else 0
            channels[topic] = writer.register_channel(topic, message_encoding, number)
        for topic, receive_ns, data in sorted(messages, key=lambda message: message[1]):
            writer.add_message(channels[topic], receive_ns, data, receive_ns)
            for other in foreign:
                writer.add_message(channels[other], receive_ns, b"{}", receive_ns)
        writer.finish()
    return path


def write_typed(path: Path, types: dict[str, str], messages: Iterable[Timed], store: Typestore = TYPES) -> Path:
    """Write messages of any type as a bag; `types` are by topic."""
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            topic: writer.add_connection(topic, msgtype, typestore=store) for topic, msgtype in types.items()
        }
        for topic, receive_ns, content in sorted(messages, key=lambda message: message[1]):
            writer.write(connections[topic], receive_ns, content)
    return path

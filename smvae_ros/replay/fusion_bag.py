"""Latents and predictions of a replay as a rosbag2, on the topics of the node.

Receive times and stamps match those of the original bag, so both can be played together by `ros2 bag play`, or opened
together in Foxglove.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from smvae_ros.conversions.arrays import fill
from smvae_ros.conversions.bindings import IMAGE, JOINTS, TWIST, VECTOR, VECTOR_STAMPED, WRENCH, Binding
from smvae_ros.replay.inference import Judged
from smvae_ros.replay.prepared import Prepared
from smvae_ros.settings import default_topics

LATENT = "smvae_ros/msg/Latent"

LATENT_DEFINITION = """\
# The distribution over the latent that the node infers from one set of samples.

# Stamp: the moment that the set describes (the reference sample's stamp). Frame: the reference sample's.
std_msgs/Header header

# Names of the modalities that were in the set.
string[] modalities

# Mean and natural logarithm of the variance of the Gaussian posterior, one entry per latent dimension.
float32[] mean
float32[] log_variance

# How much each modality of the set weighed in the fusion: one entry per entry of modalities. Together with
# attention_of_memory they sum to 1.
float32[] attention

# How much memory weighed in the fusion; 0 without memory.
float32 attention_of_memory

# Seconds from the newest observation in memory to the stamp; -1 without memory.
float32 memory_age

# How far each modality of the set can be trusted, 0 to 1: one entry per entry of modalities. Empty where the checkpoint
# cannot tell.
float32[] trust

# Names of the modalities that are distrusted. Whether they are in the set is a matter of streams.<modality>.distrust.
string[] distrusted
"""
"""msg/Latent.msg, for machines without ROS."""

_TYPES = get_typestore(Stores.ROS2_JAZZY)
_TYPES.register(get_types_from_msg(VECTOR_STAMPED, VECTOR))
_TYPES.register(get_types_from_msg(LATENT_DEFINITION, LATENT))


class FusionBag:
    """A bag of what the node would publish, as MCAP (zstd) with the message definitions. A context manager.

    Topics: `/fusion/latent`, and `/fusion/predicted/<topic>` for each modality, predicted from the whole set.

    Args:
        ignored: modalities of which it is not told that they are distrusted (`distrust: off`), as in the node.
    """

    def __init__(self, path: Path, bindings: Sequence[Binding], ignored: Collection[str] = ()) -> None:
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._bindings, self._ignored = bindings, ignored
        self._frames: dict[str, str] = {}

    def __enter__(self) -> FusionBag:
        self._writer.open()
        topics = default_topics(binding.modality for binding in self._bindings)
        self._latent = self._writer.add_connection("/fusion/latent", LATENT, typestore=_TYPES)
        self._predicted = {
            binding.modality.name: self._writer.add_connection(
                f"/fusion/predicted/{topics[binding.modality.name].split('/')[0]}", binding.predicted, typestore=_TYPES
            )
            for binding in self._bindings
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, prepared: Prepared, judged: Judged) -> None:
        """Add one set with its own stamp; the receive time is when the set went out."""
        sample_set, frames = prepared.sample_set, prepared.frames
        self._frames |= frames
        frame = next(iter(frames.values()), "")
        attention = dict(zip((binding.modality.name for binding in self._bindings), judged.attention))
        trust = judged.verdict.trust if judged.verdict is not None else {}
        distrusted = judged.verdict.distrusted if judged.verdict is not None else ()
        latent = _TYPES.types[LATENT](
            header=_header(sample_set.stamp_ns, frame),
            modalities=list(judged.held),
            mean=judged.mean,
            log_variance=judged.log_variance,
            attention=np.array([attention[name] for name in judged.held], np.float32),
            attention_of_memory=judged.attention_of_memory,
            memory_age=-1.0 if judged.memory_age is None else judged.memory_age,
            trust=np.array([trust[name] for name in judged.held if name in trust], np.float32),
            distrusted=[name for name in distrusted if name not in self._ignored],
        )
        self._writer.write(self._latent, sample_set.emitted_ns, _TYPES.serialize_cdr(latent, LATENT))
        for each in self._bindings:
            name = each.modality.name
            binding = replace(each, joints=prepared.joints.get(name, each.joints))
            message = _blank(binding.predicted, _header(sample_set.stamp_ns, self._frames.get(name, "")))
            fill(binding, message, binding.modality.to_physical(judged.predicted[name]))
            _as_numpy(message)
            self._writer.write(
                self._predicted[name], sample_set.emitted_ns, _TYPES.serialize_cdr(message, binding.predicted)
            )


def _blank(msgtype: str, header: Any) -> Any:
    types = _TYPES.types
    vector = types["geometry_msgs/msg/Vector3"]
    if msgtype == IMAGE:
        return types[IMAGE](header, 0, 0, "", 0, 0, np.zeros(0, np.uint8))
    if msgtype == WRENCH:
        return types[WRENCH](header, types["geometry_msgs/msg/Wrench"](vector(0.0, 0.0, 0.0), vector(0.0, 0.0, 0.0)))
    if msgtype == TWIST:
        return types[TWIST](header, types["geometry_msgs/msg/Twist"](vector(0.0, 0.0, 0.0), vector(0.0, 0.0, 0.0)))
    if msgtype == JOINTS:
        return types[JOINTS](header, [], *(np.zeros(0) for _ in range(3)))
    return types[msgtype](header, np.zeros(0))


def _as_numpy(message: Any) -> None:
    """Convert sequences from those that rclpy takes, which `fill` sets, to those that rosbags takes."""
    for key, value in vars(message).items():
        if isinstance(value, array):
            setattr(message, key, np.array(value, np.uint8 if value.typecode == "B" else np.float64))


def _header(stamp_ns: int, frame: str) -> Any:
    stamp = _TYPES.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 1_000_000_000))
    return _TYPES.types["std_msgs/msg/Header"](stamp, frame)

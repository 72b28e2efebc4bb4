"""The message type of each modality: usual by its kind and size, or chosen by `streams.<name>.message`.

Imports no rclpy: the replay binds in the same way as the node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from rosbags.typesys.store import Typestore

from smvae_core.errors import ConfigurationError
from smvae_core.modality import Modality
from smvae_ros.conversions.accessors import MessageAccessor, read_attribute

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
WRENCH = "geometry_msgs/msg/WrenchStamped"
TWIST = "geometry_msgs/msg/TwistStamped"
JOINTS = "sensor_msgs/msg/JointState"
VECTOR = "smvae_ros/msg/VectorStamped"

NUMBERS: dict[str, tuple[int, ...] | None] = {
    WRENCH: (6,),
    TWIST: (4, 6),
    JOINTS: None,
    f"{JOINTS}.velocity": None,
    f"{JOINTS}.effort": None,
    VECTOR: None,
}
"""By message with numbers, how many it can bring; None: any number of them."""

IMAGES = (IMAGE, COMPRESSED)
"""The messages with an image."""

VECTOR_STAMPED = """\
# Numbers of one moment, for modalities that no standard message fits: tactile arrays, gripper openings, joint commands.

std_msgs/Header header

# As many as the modality has, in the order and units that the model was trained with.
float64[] values
"""
"""The text of msg/VectorStamped.msg, to read bags that do not describe their messages, without ROS."""


_ROS_TYPE = re.compile(r"\w+/msg/\w+")
# The fields that are read from a message; those of the other messages depend on the modality.
_FIELDS: dict[str, tuple[str, ...]] = {
    IMAGE: ("height", "width", "encoding", "is_bigendian", "step", "data"),
    COMPRESSED: ("format", "data"),
    WRENCH: tuple(f"wrench.{group}.{axis}" for group in ("force", "torque") for axis in "xyz"),
    VECTOR: ("values",),
}
_TWIST_OF_4 = ("twist.linear.x", "twist.linear.y", "twist.linear.z", "twist.angular.z")
_TWIST_OF_6 = (*_TWIST_OF_4[:3], "twist.angular.x", "twist.angular.y", "twist.angular.z")


@dataclass(frozen=True)
class Binding:
    """A modality, the message that brings it, and the fields of that message with its content.

    Attributes:
        modality: a modality of the checkpoint.
        message: one of `IMAGES` or a key of `NUMBERS`; with `fields`, any message type.
        fields: paths of the numbers of another message type, as in `linear.x` or `data[3]` (see `accessors.py`).
        joints: the joints of a JointState, in the order of the modality's numbers; () for the message's own order.
        accessor: reads the fields from serialised messages; None where messages come as objects (see `reading`).
    """

    modality: Modality
    message: str
    fields: tuple[str, ...] = ()
    joints: tuple[str, ...] = ()
    accessor: MessageAccessor | None = field(default=None, compare=False, repr=False)

    @property
    def type(self) -> str:
        """The ROS type: the message without the chosen field."""
        return self.message.partition(".")[0]

    @property
    def recorded(self) -> tuple[str, ...]:
        """The ROS types that a bag may hold it in: either image type for an image, whatever the settings say."""
        return IMAGES if self.modality.is_image else (self.type,)

    @property
    def predicted(self) -> str:
        """The ROS type of its predictions: that of its messages, but Image for images, VectorStamped for `fields`."""
        if self.modality.is_image:
            return IMAGE
        return VECTOR if self.fields else self.type

    @property
    def field(self) -> str:
        """The field of a JointState that holds the numbers."""
        return self.message.partition(".")[2] or "position"

    @property
    def paths(self) -> tuple[str, ...]:
        """The fields that are read from each message."""
        if self.fields:
            return self.fields
        if self.type == JOINTS:
            return ("name", self.field)
        if self.type == TWIST:
            return _TWIST_OF_6 if self.modality.shape[0] == 6 else _TWIST_OF_4
        return _FIELDS[self.type]

    @cached_property
    def is_plain(self) -> bool:
        """Whether an accessor reads just the modality's numbers, each from a field of its own."""
        return self.accessor is not None and set(self.accessor.kinds) == {"number"} and not self.modality.is_image

    def reading(self, types: Typestore) -> Binding:
        """Return the binding with an accessor, so that it reads serialised messages as these types define them.

        Raises:
            ConfigurationError: the type is not defined, has no such field, or its fields give another number of
                numbers than the modality has.
        """
        name = self.modality.name
        try:
            accessor = MessageAccessor(types, self.type, self.paths)
        except ConfigurationError as error:
            raise ConfigurationError(f"streams.{name}: {error}") from None
        if self.fields:
            for path, kind in zip(self.fields, accessor.kinds):
                if kind not in ("number", "numbers"):
                    raise ConfigurationError(f"streams.{name}.fields: expected numbers, found the {kind} '{path}'")
            count = self.modality.shape[0]
            if "numbers" not in accessor.kinds and len(self.fields) != count:
                raise ConfigurationError(
                    f"streams.{name}.fields: expected {count} numbers, found {len(self.fields)} "
                    f"({', '.join(self.fields)})"
                )
        return replace(self, accessor=accessor)

    def values(self, message: Any) -> tuple[Any, ...]:
        """Return the fields `paths` of a message.

        Args:
            message: serialised, if the binding has an accessor; or an object of rclpy, of rosbags or of the like.

        Raises:
            ConversionError: the bytes are no whole message.
            AttributeError, IndexError, TypeError: the object has no such field.
        """
        if isinstance(message, bytes | memoryview):
            return self._accessor.read(message)
        return tuple(read_attribute(message, path) for path in self.paths)

    def stamp_ns(self, message: bytes | memoryview) -> int:
        """Return the stamp in the header of a serialised message, in nanoseconds; 0 if it has none.

        Raises:
            ConversionError: the bytes are no whole message.
        """
        return self._accessor.stamp_ns(message)

    def frame_id(self, message: bytes | memoryview) -> str:
        """Return the frame in the header of a serialised message; "" if it has none.

        Raises:
            ConversionError: the bytes are no whole message.
        """
        return self._accessor.frame_id(message)

    @property
    def has_header(self) -> bool:
        """Whether serialised messages begin with a header."""
        return self._accessor.header_first

    @property
    def _accessor(self) -> MessageAccessor:
        assert self.accessor is not None, "a binding reads serialised messages once it knows their types: `reading`"
        return self.accessor


def bind(
    modalities: Iterable[Modality],
    messages: Mapping[str, str],
    fields: Mapping[str, Sequence[str]] | None = None,
    joints: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Binding, ...]:
    """Bind each modality to the message chosen for it, or to its usual one if the choice is empty or missing.

    Args:
        modalities: those of a checkpoint or of a configuration.
        messages: by modality, the message, as in `Binding`.
        fields: by modality, the paths of its numbers in a message of any other type.
        joints: by modality, the names of its joints in a JointState.

    Raises:
        ConfigurationError: a message that cannot bring the modality; the error names those that can.
    """
    fields, joints = fields or {}, joints or {}
    return tuple(
        _binding(
            modality,
            messages.get(modality.name, ""),
            tuple(fields.get(modality.name, ())),
            tuple(joints.get(modality.name, ())),
        )
        for modality in modalities
    )


def depth_modality(bindings: Iterable[Binding]) -> str | None:
    """Return the first depth modality, whose predictions become points; None if there is none."""
    names = (one.modality.name for one in bindings if one.modality.preprocessing.kind == "depth")
    return next(names, None)


def fitting(modality: Modality) -> list[str]:
    """Return the messages that can bring a modality, its usual one first.

    Images come as Image or CompressedImage. Numbers (a vector, or each sample of a force/torque window) usually come
    as the standard message of their kind if their count fits: six forces and torques as WrenchStamped, four or six
    velocities as TwistStamped. All others usually come as VectorStamped.
    """
    preprocessing = modality.preprocessing
    if modality.is_image:
        return list(IMAGES)
    usual = WRENCH if preprocessing.kind == "force" else TWIST
    count = modality.shape[0]
    return sorted(
        (message for message, counts in NUMBERS.items() if counts is None or count in counts),
        key=lambda message: (usual, VECTOR).index(message) if message in (usual, VECTOR) else 2,
    )


def _binding(modality: Modality, message: str, fields: tuple[str, ...], joints: tuple[str, ...]) -> Binding:
    possible = fitting(modality)
    shape = " × ".join(map(str, modality.shape))
    found = f"for {modality.preprocessing.kind} of shape {shape}, found"
    name = f"streams.{modality.name}"
    if fields:
        if modality.is_image:
            raise ConfigurationError(f"{name}.fields: expected none {found} {', '.join(fields)}")
        if not _ROS_TYPE.fullmatch(message):
            raise ConfigurationError(
                f"{name}.message: expected a message type beside fields, as geometry_msgs/msg/Twist, found '{message}'"
            )
    elif message and message not in possible:
        other = "" if modality.is_image else f" (or any message type, together with {name}.fields)"
        raise ConfigurationError(f"{name}.message: expected one of {', '.join(possible)}{other} {found} '{message}'")
    binding = Binding(modality, message or possible[0], fields, joints)
    if joints:
        if binding.type != JOINTS or fields:
            raise ConfigurationError(
                f"{name}.joints: expected joints only with the message {JOINTS}, found them with {binding.message}"
            )
        if len(joints) != modality.shape[0] or len(set(joints)) != len(joints):
            raise ConfigurationError(
                f"{name}.joints: expected the names of {modality.shape[0]} joints {found} {', '.join(joints)}"
            )
    return binding

"""The message type of each modality: usual by its kind and size, or chosen by `streams.<name>.message`.

Imports no rclpy: the replay binds in the same way as the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from smvae_core.errors import ConfigurationError
from smvae_core.modality import Modality

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


@dataclass(frozen=True)
class Binding:
    """A modality and the message that brings it.

    Attributes:
        modality: a modality of the checkpoint.
        message: one of `IMAGES` or a key of `NUMBERS`.
    """

    modality: Modality
    message: str

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
        """The ROS type of its predictions: the type of its messages, but Image for a CompressedImage."""
        return IMAGE if self.modality.is_image else self.type

    @property
    def field(self) -> str:
        """The field of a JointState that holds the numbers."""
        return self.message.partition(".")[2] or "position"


def bind(modalities: Iterable[Modality], messages: Mapping[str, str]) -> tuple[Binding, ...]:
    """Bind each modality to the message chosen for it, or to its usual one if the choice is empty or missing.

    Raises:
        ConfigurationError: a message that cannot bring the modality; the error names those that can.
    """
    return tuple(_binding(modality, messages.get(modality.name, "")) for modality in modalities)


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


def _binding(modality: Modality, message: str) -> Binding:
    possible = fitting(modality)
    if message and message not in possible:
        shape = " × ".join(map(str, modality.shape))
        raise ConfigurationError(
            f"streams.{modality.name}.message: expected one of {', '.join(possible)} "
            f"for {modality.preprocessing.kind} of shape {shape}, found '{message}'"
        )
    return Binding(modality, message or possible[0])

"""What keeps a topic from being subscribed to, said before or after DDS refuses it, with the names of what to mend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rclpy._rclpy_pybind11 import RCLError
from rclpy.node import Node

from smvae_core.errors import ConfigurationError
from smvae_ros.node.callback_guard import described

# A queue of DDS is counted by a signed number of four bytes.
_MOST_DEPTH = 2**31 - 1


def refuse_shared_topics(node: Node, topics: Mapping[str, str], types: Mapping[str, str]) -> None:
    """Raise an error if two modalities want messages of different types from one topic, or the node's own messages.

    Args:
        topics: by modality, fully resolved.
        types: by modality, the ROS type of its messages.

    Raises:
        ConfigurationError: names the topic and the modalities.
    """
    first: dict[str, str] = {}
    own = {publisher.topic_name for publisher in node.publishers}
    for name, topic in topics.items():
        other = first.setdefault(topic, name)
        if types[other] != types[name]:
            raise ConfigurationError(
                f"{topic}: expected messages of one type, found {types[other]} for {other} and {types[name]} for "
                f"{name}; correct streams.{name}.topic or the remapping"
            )
        if topic in own:
            raise ConfigurationError(
                f"{topic}: expected the topic of a sensor for {name}, found one that the node itself publishes on; "
                f"correct streams.{name}.topic or the remapping"
            )


@contextmanager
def subscribing(node: Node, topic: str, message: str) -> Iterator[None]:
    """Turn what the middleware raises while a subscription is created into a sentence that names its settings.

    Raises:
        ConfigurationError: the subscription cannot be created.
    """
    prefix = f"qos_overrides.{topic}.subscription."
    given = {name: one.value for name, one in node._parameter_overrides.items() if name.startswith(prefix)}
    depth = given.get(f"{prefix}depth")
    if isinstance(depth, int) and not 0 <= depth <= _MOST_DEPTH:
        raise ConfigurationError(f"{prefix}depth: expected 0 to {_MOST_DEPTH}, found {depth}")
    try:
        yield
    except (RCLError, RuntimeError, ValueError) as error:
        settings = ", ".join(f"{name}: {value}" for name, value in given.items()) or "no QoS override"
        raise ConfigurationError(
            f"{topic} cannot be subscribed to as {message}, with {settings}: {described(error)}"
        ) from error

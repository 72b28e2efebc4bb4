"""Publisher check: finds publishers on a sensor's topic that the node cannot hear, and several of one clock."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

from smvae_ros.conversions.bindings import Binding

# An endpoint is discovered a little earlier than the name of its node.
_NAMELESS = "_NODE_NAME_UNKNOWN_"


def unheard_publishers(node: Node, topic: str, binding: Binding, qos: QoSProfile | None) -> dict[str, str]:
    """Return the publishers on a topic that the node cannot hear, each with the reason.

    Args:
        binding: of the modality that the topic brings.
        qos: of the subscription; None if there is none.
    """
    reasons: dict[str, str] = {}
    for one in node.get_publishers_info_by_topic(topic):
        name = _full_name(one)
        if one.node_name == _NAMELESS:
            continue
        if one.topic_type != binding.type:
            message = f"streams.{binding.modality.name}.message"
            reasons[name] = f"expected {binding.type} ({message}), found {name} ({one.topic_type})"
        elif qos is not None:
            compatibility, reason = qos_check_compatible(one.qos_profile, qos)
            if compatibility == QoSCompatibility.ERROR:
                reasons[name] = _incompatible(topic, name, one.qos_profile, qos, reason)
    return reasons


def several_clocks(node: Node) -> str:
    """Return that several nodes publish simulated time, where time has gone back; empty if they do not."""
    topic = node.resolve_topic_name("/clock")
    found = publisher_names(node, topic)
    if len(found) < 2:
        return ""
    return f"time goes back again and again: several publish on {topic} ({', '.join(found)}); stop all but one"


def publisher_names(node: Node, topic: str) -> list[str]:
    """Return the full names of the nodes that publish on a topic, one for each publisher, in alphabetical order."""
    return sorted(_full_name(one) for one in node.get_publishers_info_by_topic(topic))


def _full_name(one: TopicEndpointInfo) -> str:
    return f"{one.node_namespace.rstrip('/')}/{one.node_name}"


def _incompatible(topic: str, name: str, offered: QoSProfile, asked: QoSProfile, reason: str) -> str:
    if offered.reliability != asked.reliability:
        return (
            f"a publisher offers less reliability than is asked for, so nothing arrives from it; found {name} "
            f"({offered.reliability.name.lower()}); qos_overrides.{topic}.subscription.reliability says what is "
            "asked for"
        )
    return f"the quality of service of {name} does not match: {reason.strip()}"

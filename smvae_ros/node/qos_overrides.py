"""QoS overrides: finds `qos_overrides` parameters that have no effect, and says why."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches

from rclpy.node import Node

_PREFIX = "qos_overrides."
_NAME = re.compile(r"qos_overrides\.(?P<topic>[^.]*)\.(?P<entity>[^.]*)\.(?P<policy>.*)")
_POLICIES = ("history", "depth", "reliability")


def ineffective_overrides(node: Node, disabled: Collection[str]) -> dict[str, str]:
    """Return the QoS overrides that no publisher or subscription of the node takes, each with the reason.

    Call it when all publishers and subscriptions exist.

    Args:
        disabled: topics of disabled modalities, whose overrides take effect when they are enabled.
    """
    known = [name for name in node.get_parameters_by_prefix("qos_overrides")]
    topics: dict[str, set[str]] = {"subscription": set(), "publisher": set()}
    for name in known:
        topic, entity, _ = name.split(".", 2)
        topics.setdefault(entity, set()).add(topic)
    topics["subscription"] |= set(disabled)
    given = [name for name in node._parameter_overrides if name.startswith(_PREFIX) and not node.has_parameter(name)]
    reasons = {name: _reason(node, name, topics) for name in sorted(given)}
    return {name: reason for name, reason in reasons.items() if reason}


def _reason(node: Node, name: str, topics: dict[str, set[str]]) -> str:
    found = _NAME.fullmatch(name)
    if found is None:
        return "expected qos_overrides.<topic>.<subscription or publisher>.<policy>"
    topic, entity, policy = found["topic"], found["entity"], found["policy"]
    if entity not in ("subscription", "publisher"):
        return f"expected subscription or publisher after the topic, found '{entity}'"
    if topic not in topics[entity]:
        return _wrong_topic(node, topic, entity, topics)
    if policy not in _POLICIES:
        return f"expected one of the policies {', '.join(_POLICIES)}, found '{policy}'"
    return ""


def _wrong_topic(node: Node, topic: str, entity: str, topics: dict[str, set[str]]) -> str:
    choices = sorted(topics[entity])
    other = "publisher" if entity == "subscription" else "subscription"
    if topic in topics[other]:
        return f"the node has a {other} on {topic}, but no {entity}"
    try:
        resolved = node.resolve_topic_name(topic)
    except ValueError:
        resolved = topic
    if resolved != topic and resolved in choices:
        way = "is remapped to" if topic.startswith("/") else "needs its full name,"
        return f"the topic '{topic}' {way} {resolved}"
    close = get_close_matches(resolved, choices, 1, 0.7) or get_close_matches(topic, choices, 1, 0.7)
    hint = f"did you mean {close[0]}?" if close else f"it has those on {', '.join(choices)}"
    return f"the node has no {entity} on '{topic}'; {hint}"

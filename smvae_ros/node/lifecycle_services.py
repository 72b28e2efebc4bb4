"""The services of the lifecycle, with queues in which the requests of many clients wait while a transition goes on.

rclpy's own keep ten requests. The middleware drops the others in silence, and their clients wait for ever: configuring
takes seconds, in which several clients that ask for the state send more.
"""

from __future__ import annotations

from typing import Any

from lifecycle_msgs.srv import ChangeState, GetAvailableStates, GetAvailableTransitions, GetState
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile

DEEP = QoSProfile(depth=1000)
"""Of services: as many requests as those of rclpy's parameter services keep."""

_KINDS: dict[str, Any] = {
    "change_state": ChangeState,
    "get_state": GetState,
    "get_available_states": GetAvailableStates,
    "get_available_transitions": GetAvailableTransitions,
    "get_transition_graph": GetAvailableTransitions,
}


def create_lifecycle_services(node: LifecycleNode) -> None:
    """Create the services of a node that was made with `enable_communication_interface=False`; rclpy answers them."""
    for name, kind in _KINDS.items():
        answer = getattr(node, f"_LifecycleNodeMixin__on_{name}")
        node.create_service(kind, f"~/{name}", answer, qos_profile=DEEP)

"""Many clients at once, also while a transition is carried out: every call is answered, and sets come afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState, GetAvailableStates, GetAvailableTransitions, GetState
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.qos import QoSProfile
from rclpy.task import Future
from std_srvs.srv import Trigger

from ..robot import ALL, Robot, fusion_and_robot

CLIENTS, CALLS = 3, 15
SERVICES: dict[str, Any] = {
    "change_state": ChangeState,
    "get_state": GetState,
    "get_available_states": GetAvailableStates,
    "get_available_transitions": GetAvailableTransitions,
    "get_transition_graph": GetAvailableTransitions,
    "set_parameters": SetParameters,
    "set_parameters_atomically": SetParametersAtomically,
    "reset": Trigger,
}
# Without those that shut the node down, which is a client's right.
IDS = (0, 1, 1, 2, 3, 3, 4, 4, 8, 9, 10, 11, 12, 20, 40, 60, 62, 97, 98, 255)
LABELS = ("", "", "", "configure", "activate", "deactivate", "cleanup", "transition_success", "x" * 999)
NAMES = ("max_wait", "streams.rgb.enabled", "streams.depth.tolerance", "backend", "", "x" * 999)


class Clients:
    """Clients of every service of the node, each set of them in a node of its own."""

    def __init__(self, robot: Robot, seed: int) -> None:
        self._robot, self._random = robot, Random(seed)
        nodes = [robot.join(f"client{number}") for number in range(CLIENTS)]
        qos = QoSProfile(depth=1000)
        self._clients = [
            {name: node.create_client(kind, f"/fusion/{name}", qos_profile=qos) for name, kind in SERVICES.items()}
            for node in nodes
        ]
        for client in (one for clients in self._clients for one in clients.values()):
            robot.wait(client.service_is_ready, client.srv_name)

    def ask(self, calls: int, first: int) -> list[Future]:
        """Send a transition, then so many calls of each service by each client, none waiting for another."""
        request = ChangeState.Request(transition=Transition(id=first))
        return [self._clients[0]["change_state"].call_async(request)] + [
            client.call_async(self._request(name))
            for _ in range(calls)
            for clients in self._clients
            for name, client in clients.items()
        ]

    def _request(self, name: str) -> Any:
        request = SERVICES[name].Request()
        if name == "change_state":
            request.transition = Transition(id=self._random.choice(IDS), label=self._random.choice(LABELS))
        elif name.startswith("set_parameters"):
            request.parameters = [self._parameter() for _ in range(3)]
        return request

    def _parameter(self) -> Parameter:
        value = ParameterValue(type=self._random.choice([*range(11), 77]), double_value=self._random.uniform(-1, 1))
        return Parameter(name=self._random.choice(NAMES), value=value)


@pytest.fixture(scope="module")
def robot(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    log = tmp_path_factory.mktemp("fusion") / "log"
    with fusion_and_robot(log, {"checkpoint": checkpoint}) as (robot, process):
        robot.sending = set(ALL)
        robot.wait_for_set(*ALL)
        yield robot
        assert process.alive
        assert "Traceback" not in process.output()


@pytest.mark.parametrize("first", [Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_DEACTIVATE])
def test_all_calls_of_all_clients_are_answered_also_those_that_wait_for_a_transition(robot: Robot, first: int) -> None:
    events = robot.listen("transition_event", TransitionEvent)
    before = {name: robot.get(name) for name in NAMES[:3]}
    clients = Clients(robot, seed=first)
    if first == Transition.TRANSITION_CONFIGURE:
        robot.change("deactivate")
        robot.change("cleanup")
    calls = clients.ask(CALLS, first)
    robot.wait(lambda: all(future.done() for future in calls), "all answers")
    assert calls[0].result().success
    for transition in ("deactivate", "cleanup", "configure"):
        robot.change(transition)
    assert robot.set(**before) == ""
    assert robot.change("activate")
    robot.wait(lambda: events and events[-1].goal_state.label == "active", "the event of the last transition")
    robot.wait_for_set(*ALL)

"""Random calls of every service and parameter of a running node.

A robot sends all modalities meanwhile. After each round of calls, the node is brought back to the active state and to
its parameters; then sets of all modalities must come. Shutting the node down is left out: that is a client's right.
"""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from math import inf, nan
from random import Random
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter as NodeParameter

from ..robot import ALL, FusionProcess, Robot

ROUND = 250
TOGETHER = 10
SHUTDOWN = {
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    Transition.TRANSITION_INACTIVE_SHUTDOWN,
    Transition.TRANSITION_ACTIVE_SHUTDOWN,
}
SMALL = {"uint8": 255, "octet": 255, "boolean": 1}
NUMBERS = (0, 1, 2, 5, 31, 100, -1, 2**31, 2**63 - 1, -(2**63))
DOUBLES = (0.0, -0.0, 0.05, 1e-9, 1.0, 1e9, -1e300, nan, inf, -inf)
STRINGS = (
    "", "a", "/", "//", "~", "~/x", "a b", "rgb/image", "{node}", "{", "\n", "é", "\U0001f916", "x" * 5000, "cpu",
    "configure", "activate", "deactivate", "transition_success", "sensor_msgs/msg/Image", "../../etc", "%s%n", "1.0",
)  # fmt: skip


class ServiceFuzzer:
    """Random calls of a node.

    Attributes:
        found: how often each service answered.
    """

    def __init__(self, robot: Robot, process: FusionProcess, seed: int) -> None:
        self._robot, self._process, self._random = robot, process, Random(seed)
        self.found: Counter[str] = Counter()
        self._names = robot.parameters()
        self._values = dict(zip(self._names, map(robot.get, self._names)))
        self._clients = {
            name: robot.node.create_client(kind, name) for name, kind in sorted(services(robot, "fusion").items())
        }

    def run(self, calls: int) -> None:
        """Send so many calls.

        Raises:
            AssertionError: the node ended, or no set of all modalities came after a round.
            TimeoutError: a service did not answer.
        """
        done = 0
        while done < calls:
            for _ in range(min(ROUND, calls - done) // TOGETHER):
                self._call_some()
                done += TOGETHER
            self._restore()
            self._robot.wait_for_set(*ALL)

    def _call_some(self) -> None:
        names = [self._random.choice(list(self._clients)) for _ in range(TOGETHER)]
        futures = {}
        for name in names:
            client = self._clients[name]
            self._robot.wait(client.service_is_ready, f"the service {name}")
            futures[client.call_async(self._request(client.srv_type))] = name
        self._robot.wait(lambda: not self._process.alive or all(f.done() for f in futures), f"answers of {set(names)}")
        assert self._process.alive, self._process.output()[-2000:]
        self.found.update(futures.values())

    def _restore(self) -> None:
        assert self._process.alive
        robot = self._robot
        while (state := robot.state()) != "active":
            robot.change({"unconfigured": "configure", "inactive": "activate"}[state])
        for name, value in self._values.items():
            if robot.get(name) == value:
                continue
            if reason := robot.set(**{name: value}):
                state = "unconfigured" if "unconfigured" in reason else "inactive"
                robot.change("deactivate")
                if state == "unconfigured":
                    robot.change("cleanup")
                robot.set(**{name: value})
        # Values that go together may be refused one by one.
        if any(robot.get(name) != value for name, value in self._values.items()) or robot.state() != "active":
            self._restore()

    def _request(self, kind: Any) -> Any:
        request = self._message(kind.Request)
        if kind is ChangeState:
            # Clean-up is rare, because configuring takes seconds.
            request.transition.id = self._random.choice([0, 1, 1, 3, 3, 8, 9, 10, 30, 60, 97, 98, 99, 200, 255])
            if self._random.random() < 0.04:
                request.transition.id = self._random.choice([2, 4])
            if self._random.random() < 0.7 or request.transition.label in ("deactivate", "cleanup"):
                request.transition.label = ""
        if kind in (SetParameters, SetParametersAtomically):
            request.parameters = [self._parameter() for _ in range(self._random.randrange(4))]
        elif hasattr(request, "names"):
            request.names = [self._name() for _ in range(self._random.randrange(4))]
        return request

    def _parameter(self) -> Parameter:
        name = self._name()
        if name in self._values and self._random.random() < 0.5:
            # A value of the right type, most of them out of range.
            kind = type(self._values[name])
            choices = {bool: (True, False), int: NUMBERS, float: DOUBLES, str: STRINGS}.get(kind, STRINGS)
            return NodeParameter(name, value=self._random.choice(choices)).to_parameter_msg()
        value = self._message(ParameterValue)
        value.type = self._random.choice([*range(11), 77, 255])
        return Parameter(name=name, value=value)

    def _name(self) -> str:
        return self._random.choice(self._names if self._random.random() < 0.8 else STRINGS)

    def _message(self, kind: Any) -> Any:
        message = kind()
        for field, of in kind.get_fields_and_field_types().items():
            setattr(message, field, self._value(of))
        return message

    def _value(self, of: str) -> Any:
        if of.startswith("sequence<"):
            inner = of.removeprefix("sequence<").partition(",")[0].rstrip(">")
            return [self._value(inner) for _ in range(self._random.randrange(4))]
        if "/" in of:
            package, _, name = of.partition("/")
            return self._message(getattr(import_module(f"{package}.msg"), name))
        if of == "string":
            return self._random.choice([*STRINGS, *self._names])
        if of == "boolean":
            return self._random.random() < 0.5
        if of == "octet":
            return bytes([self._random.randrange(256)])
        if of in ("double", "float"):
            return self._random.choice(DOUBLES)
        bits = int(of.lstrip("uint"))
        least, most = (0, 2**bits - 1) if of.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return min(max(self._random.choice([*NUMBERS, least, most]), least), most)


def services(robot: Robot, node: str) -> dict[str, Any]:
    """Return by name the types of all services of a node in the root namespace."""
    found: dict[str, Any] = {}

    def look() -> bool:
        for name, (kind, *_) in robot.node.get_service_names_and_types_by_node(node, "/"):
            package, _, type_name = kind.split("/")
            found[name] = getattr(import_module(f"{package}.srv"), type_name)
        return f"/{node}/set_parameters" in found and f"/{node}/change_state" in found and f"/{node}/reset" in found

    robot.wait(look, f"the services of {node}")
    return found

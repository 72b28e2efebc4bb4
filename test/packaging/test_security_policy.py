"""The SROS 2 policy allows what the running node does, and nothing else."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ..ros.robot import Robot, fusion_and_robot

POLICIES = Path("config") / "sros2"
NODE = "fusion"
EVERY_NODE_PUBLISHES = ["/parameter_events", "/rosout"]


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    """A robot beside an active node of the shipped checkpoint, in simulated time."""
    with fusion_and_robot(tmp_path_factory.mktemp("fusion") / "log", {"use_sim_time": True}) as (robot, _):
        robot.clock(start_s=1.0)
        robot.wait_for_state("active")
        yield robot


@pytest.fixture(scope="module")
def profile(root: Path) -> ElementTree.Element:
    """What the policy says of the node."""
    return the_profile(root, "fusion", NODE)


def the_profile(root: Path, policy: str, node: str) -> ElementTree.Element:
    """What a policy says of a node, in the enclave of its name."""
    enclaves = ElementTree.parse(root / POLICIES / f"{policy}.policy.xml").getroot()
    assert enclaves.get("version") == "0.2.0"
    (profile,) = enclaves.findall(f"enclaves/enclave[@path='/{node}']/profiles/profile")
    assert (profile.get("ns"), profile.get("node")) == ("/", node)
    return profile


def allowed(profile: ElementTree.Element, kind: str, right: str) -> list[str]:
    """The full names in a list of the policy."""
    (group,) = profile.findall(f"{kind}[@{right}]")
    assert group.attrib == {right: "ALLOW"}
    names = [str(element.text) for element in group]
    return sorted(name.replace("~", f"/{profile.get('node')}") if name[0] in "~/" else f"/{name}" for name in names)


def real(robot: Robot, ask: str) -> list[str]:
    """The full names of the running node."""
    return sorted(name for name, _ in getattr(robot.node, f"get_{ask}_names_and_types_by_node")(NODE, "/"))


def test_the_topics_that_it_may_subscribe_to_are_those_that_it_subscribes_to(
    robot: Robot, profile: ElementTree.Element
) -> None:
    expected = allowed(profile, "topics", "subscribe")
    robot.wait(lambda: real(robot, "subscriber") == expected, f"subscriptions of {expected}")


def test_the_topics_that_it_may_publish_are_those_that_it_publishes(robot: Robot, profile: ElementTree.Element) -> None:
    expected = allowed(profile, "topics", "publish")
    if find_spec("sensor_msgs_py") is None:
        expected.remove(f"/{NODE}/predicted/points")
    robot.wait(lambda: real(robot, "publisher") == expected, f"publishers of {expected}")


def test_the_services_that_it_may_answer_are_those_that_it_offers(robot: Robot, profile: ElementTree.Element) -> None:
    expected = allowed(profile, "services", "reply")
    robot.wait(lambda: real(robot, "service") == expected, f"services {expected}")
    assert real(robot, "client") == []


def test_the_sensors_of_the_example_may_publish_what_the_node_may_subscribe_to(
    root: Path, profile: ElementTree.Element
) -> None:
    sensors = the_profile(root, "robot", "sensors")
    assert allowed(sensors, "topics", "publish") == sorted(
        allowed(profile, "topics", "subscribe") + EVERY_NODE_PUBLISHES
    )


@pytest.mark.parametrize(
    ("kind", "given", "taken"), [("topics", "publish", "subscribe"), ("services", "reply", "request")]
)
def test_the_listener_of_the_example_reaches_all_that_the_node_offers(
    root: Path, profile: ElementTree.Element, kind: str, given: str, taken: str
) -> None:
    patterns = allowed(the_profile(root, "robot", "listener"), kind, taken)
    offered = allowed(profile, kind, given)
    assert [name for name in offered if not any(fnmatchcase(name, pattern) for pattern in patterns)] == []


@pytest.mark.parametrize(("policy", "commands"), [("fusion", 3), ("robot", 1)])
def test_the_page_names_the_commands_in_a_policy(root: Path, policy: str, commands: int) -> None:
    lines = (root / POLICIES / f"{policy}.policy.xml").read_text().splitlines()
    said = [line.strip() for line in lines if line.strip().startswith(("ros2 ", "ROS_"))]
    assert len(said) == commands
    page = (root / "docs" / "security.md").read_text()
    assert all(command in page for command in said)

"""Messages that can be read but mean little, sent to a running node: named in log and diagnostics, and counted."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped, WrenchStamped
from sensor_msgs.msg import Image

from ..robot import ALL, FusionProcess, Robot, colours, fusion_and_robot, header, image


@pytest.fixture(scope="module")
def running(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Robot, FusionProcess]]:
    """One node for all, and a robot."""
    with fusion_and_robot(tmp_path_factory.mktemp("fusion") / "log", {"checkpoint": checkpoint}) as both:
        yield both


@pytest.fixture
def robot(running: tuple[Robot, FusionProcess]) -> Iterator[Robot]:
    """The robot, sending everything and heard."""
    robot, process = running
    robot.stamping.clear()
    robot.force = np.full(6, 0.1)
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    yield robot
    assert process.alive and "Traceback" not in process.output()


def faults(robot: Robot, name: str) -> dict[str, int]:
    """What the newest status says of a modality's meaningless messages, by kind."""
    modality = robot.modality(name)
    return dict(zip(modality.fault_names, modality.fault_counts))


def wait_for(robot: Robot, process: FusionProcess, name: str, kind: str, words: str) -> None:
    """Wait until a fault is counted, and named in diagnostics and log."""
    robot.wait(lambda: faults(robot, name).get(kind, 0) > 2, f"{kind} of {name} to be counted")
    robot.wait(lambda: words in robot.diagnostics[f"fusion: {name}"].message, f"diagnostics to say: {words}")
    robot.wait(lambda: words in process.output(), f"the log to say: {words}")


def test_healthy_sensors_have_no_faults(robot: Robot) -> None:
    robot.new_status()
    robot.new_status()
    assert {name: faults(robot, name) for name in ALL} == {name: {} for name in ALL}


def test_two_publishers_of_wrenches_on_one_topic_are_named(running: tuple[Robot, FusionProcess], robot: Robot) -> None:
    _, process = running
    publisher = robot.node.create_publisher(WrenchStamped, "/wrench", 200)

    def publish() -> None:
        for _ in range(3):
            now_ns = robot.node.get_clock().now().nanoseconds
            publisher.publish(WrenchStamped(header=header("force", now_ns)))

    timer = robot.node.create_timer(0.03, publish)
    wait_for(robot, process, "force", "mixed", "messages of several sources are mixed")
    robot.node.destroy_timer(timer)
    robot.node.destroy_publisher(publisher)


def test_a_second_publisher_that_sends_once_a_second_is_named(
    running: tuple[Robot, FusionProcess], robot: Robot
) -> None:
    _, process = running
    robot.new_status()
    before = faults(robot, "action").get("mixed", 0)
    publisher = robot.node.create_publisher(TwistStamped, "/action", 1)
    timer = robot.node.create_timer(
        1.0, lambda: publisher.publish(TwistStamped(header=header("action", robot.sent_ns[-1] + 1)))
    )
    robot.wait(lambda: faults(robot, "action").get("mixed", 0) > before + 2, "mixed commands to be counted")
    words = "messages of several sources are mixed"
    robot.wait(lambda: words in robot.diagnostics["fusion: action"].message, f"diagnostics to say: {words}")
    robot.wait(lambda: f"/action: {words}" in process.output(), f"the log to say: {words}")
    robot.node.destroy_timer(timer)
    robot.node.destroy_publisher(publisher)


@pytest.mark.parametrize("other", ["another frame", "another size"])
def test_two_cameras_behind_one_publisher_are_named(
    running: tuple[Robot, FusionProcess], robot: Robot, other: str
) -> None:
    _, process = running
    before = faults(robot, "rgb").get("mixed", 0)
    turn = 0

    def publish() -> None:
        nonlocal turn
        turn += 1
        message: Image = image(colours(24, 32) if turn % 2 and other == "another size" else colours())
        message.header = header("depth" if turn % 2 and other == "another frame" else "rgb", robot.sent_ns[-1] + 1)
        robot.publisher("rgb/image").publish(message)

    robot.sending = {"depth", "force", "action"}
    timer = robot.node.create_timer(0.05, publish)
    words = "frames " if other == "another frame" else "pictures of "
    robot.wait(lambda: faults(robot, "rgb").get("mixed", 0) > before + 2, "mixed pictures to be counted")
    robot.wait(lambda: words in robot.diagnostics["fusion: rgb"].message, f"diagnostics to say: {words}")
    robot.node.destroy_timer(timer)


def test_a_driver_that_sends_each_picture_twice_is_named(running: tuple[Robot, FusionProcess], robot: Robot) -> None:
    _, process = running
    robot.stamping["rgb"] = lambda moment_ns: [moment_ns - 25_000_000, moment_ns]
    wait_for(robot, process, "rgb", "repeated", "pictures are the same as the one before, but new ones come")


def test_a_force_sensor_that_hangs_is_named(running: tuple[Robot, FusionProcess], robot: Robot) -> None:
    _, process = running
    robot.force = np.zeros(6)
    wait_for(robot, process, "force", "repeated", "the same numbers")


def test_windows_that_span_too_much_time_are_in_no_set(running: tuple[Robot, FusionProcess], robot: Robot) -> None:
    _, process = running
    robot.stamping["force"] = lambda moment_ns: [moment_ns] if moment_ns // 1_000_000 % 10 == 0 else []
    robot.wait_for_set("rgb", "depth", "action")
    wait_for(robot, process, "force", "stretched", "windows of 32 samples span")
    robot.wait(lambda: robot.dropped("force").get("stretched", 0) > 0, "samples dropped as stretched")
    assert not robot.modality("force").alive
    robot.stamping.clear()
    robot.wait_for_set(*ALL)

"""`smvae check` listens to a running robot, over real DDS."""

import subprocess
from collections.abc import Iterator
from os import environ
from pathlib import Path

import pytest
import yaml
from geometry_msgs.msg import TwistStamped

from ...programs import Program
from ..command import command
from ..robot import Robot, own_domain


@pytest.fixture
def robot_in_domain() -> Iterator[tuple[Robot, int]]:
    """A robot in a domain of its own."""
    with own_domain() as domain:
        robot = Robot(domain)
        yield robot, domain
        robot.close()


def checked(robot: Robot, domain: int, *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command, while the robot sends."""
    process = Program(
        command("check", *arguments),
        env={**environ, "ROS_DOMAIN_ID": str(domain), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    robot.wait(lambda: process.poll() is not None, "the check to end")
    out, err = process.communicate()
    return process.returncode, out, err


def test_a_robot_that_sends_everything_would_be_fused(robot_in_domain: tuple[Robot, int]) -> None:
    robot, domain = robot_in_domain
    robot.sending = {"rgb", "depth", "force", "action"}
    code, out, err = checked(robot, domain, "--seconds", 3)
    assert (code, err) == (0, ""), out
    assert "the node would fuse" in out and "reliable, volatile" in out and "rgb8, 64×48" in out
    assert "not used: /depth/camera_info (sensor_msgs/msg/CameraInfo)" in out


def test_a_sensor_that_sends_nothing_and_one_of_another_type_are_named(robot_in_domain: tuple[Robot, int]) -> None:
    robot, domain = robot_in_domain
    robot.sending = {"rgb", "action"}
    robot.mistake("wrench", TwistStamped)
    code, out, err = checked(robot, domain, "--seconds", 2)
    assert (code, err) == (1, "")
    assert "the node would not fuse: depth: messages none; force: type geometry_msgs/msg/TwistStamped" in out


def test_a_robot_is_drafted(robot_in_domain: tuple[Robot, int], tmp_path: Path) -> None:
    robot, domain = robot_in_domain
    robot.sending = {"rgb", "depth", "force", "action"}
    code, out, err = checked(robot, domain, "--seconds", 3, "--write", tmp_path / "mine")
    assert (code, err) == (0, ""), out
    content = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    assert {one["preprocessing"]["kind"] for one in content["model"]["modalities"]} == {
        "rgb",
        "depth",
        "force",
        "vector",
    }

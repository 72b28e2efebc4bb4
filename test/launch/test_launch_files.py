"""The launch files, launched. They need launch, which ROS 2 brings and PyPI does not."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

launch_pytest = pytest.importorskip(
    "launch_pytest", reason="launch_pytest is not installed: it comes with ROS 2 (ros-<distro>-launch-pytest)"
)

if not hasattr(pytest.fixture(lambda: None), "_pytestfixturefunction"):
    pytest.skip(f"launch_pytest needs pytest < 8.4, found {pytest.__version__}", allow_module_level=True)

from launch.actions import IncludeLaunchDescription, SetEnvironmentVariable
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_pytest.actions import ReadyToTest

from launch import LaunchContext, LaunchDescription, LaunchService

from ..ros.robot import ALL, Robot, own_domain

LAUNCH = Path(__file__).parents[2] / "launch"


def plays_bags() -> bool:
    """Whether `ros2 bag` is installed."""
    ros2 = shutil.which("ros2")
    return (
        ros2 is not None
        and subprocess.run([ros2, "bag", "play", "--help"], capture_output=True, check=False).returncode == 0
    )


@pytest.fixture
def domain() -> Iterator[int]:
    """A ROS domain of the test's own, for the launched processes too."""
    with own_domain() as number:
        yield number


def launched(**arguments: object) -> LaunchDescription:
    """fusion.launch.py with some arguments."""
    source = PythonLaunchDescriptionSource(str(LAUNCH / "fusion.launch.py"))
    included = IncludeLaunchDescription(
        source, launch_arguments=[(name, str(value)) for name, value in arguments.items()]
    )
    return LaunchDescription([included, ReadyToTest()])


@launch_pytest.fixture
def with_defaults(domain: int) -> LaunchDescription:
    return launched()


@launch_pytest.fixture
def in_a_namespace(domain: int, checkpoint: Path) -> LaunchDescription:
    return launched(checkpoint=checkpoint, namespace="robot1", device="cpu", log_level="warn")


@launch_pytest.fixture
def with_a_bad_checkpoint(domain: int, tmp_path: Path) -> LaunchDescription:
    (tmp_path / "bad.safetensors").write_bytes(b"not safetensors")
    return launched(checkpoint=tmp_path / "bad.safetensors")


@launch_pytest.fixture
def with_a_parameter_file(domain: int, checkpoint: Path, tmp_path: Path) -> LaunchDescription:
    file = tmp_path / "mine.yaml"
    file.write_text(f"/**:\n  ros__parameters:\n    checkpoint: {checkpoint}\n    max_wait: 0.2\n")
    return launched(params_file=file)


@launch_pytest.fixture
def with_a_bag(domain: int, checkpoint: Path, bag: Path) -> LaunchDescription:
    return launched(checkpoint=checkpoint, bag=bag, namespace="robot1", bag_arguments="--loop")


@launch_pytest.fixture
def with_other_names(domain: int, checkpoint: Path) -> LaunchDescription:
    return launched(checkpoint=checkpoint, name="eyes", rgb_topic="/cam/color", force_topic="ft", autostart="false")


@launch_pytest.fixture
def that_respawns(domain: int, checkpoint: Path) -> LaunchDescription:
    return launched(checkpoint=checkpoint, respawn="true")


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a `ros2` that plays nothing writes its arguments, one a line."""
    (tmp_path / "ros2").write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {tmp_path}/part\nmv {tmp_path}/part {tmp_path}/noted\nexec sleep 60\n"
    )
    (tmp_path / "ros2").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "noted"


@launch_pytest.fixture
def with_a_noted_player(domain: int, checkpoint: Path, noted: Path, tmp_path: Path) -> LaunchDescription:
    (tmp_path / "monday").mkdir()
    return launched(checkpoint=checkpoint, bag=tmp_path / "monday", namespace="robot1", bag_arguments="--rate 0.5")


@pytest.fixture
def robot(domain: int) -> Iterator[Robot]:
    """A robot beside a node without a namespace."""
    robot = Robot(domain)
    yield robot
    robot.close()


@pytest.mark.launch(fixture=with_defaults)
def test_no_argument_is_needed(robot: Robot) -> None:
    robot.wait_for_state("active")
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)
    assert robot.get("max_wait") == 0.05


@pytest.mark.launch(fixture=in_a_namespace)
def test_a_namespace_moves_the_node_and_its_topics(domain: int) -> None:
    robot = Robot(domain, fusion="/robot1/fusion", topics="/robot1")
    try:
        robot.sending = set(ALL)
        robot.wait_for_set(*ALL)
        assert robot.get("device") == "cpu"
    finally:
        robot.close()


@pytest.mark.launch(fixture=with_other_names)
def test_name_topics_and_autostart_are_arguments(domain: int) -> None:
    robot = Robot(domain, fusion="/eyes")
    try:
        assert robot.state() == "unconfigured"
        assert robot.change("configure") and robot.change("activate")
        assert robot.get("streams.rgb.topic") == "/cam/color"
        assert robot.get("streams.force.topic") == "ft"
        assert robot.get("streams.depth.topic") == "depth/image"
        robot.wait(lambda: robot.node.count_subscribers("/cam/color"), "the node to subscribe")
    finally:
        robot.close()


def fusion_processes() -> set[int]:
    """Return the ids of the fusion nodes that this process has started."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"fusion_node" in (status.parent / "cmdline").read_bytes():
                found.add(int(status.parent.name))
    return found


@pytest.mark.launch(fixture=that_respawns)
def test_a_node_that_is_killed_is_started_again(robot: Robot) -> None:
    robot.wait_for_state("active")
    (number,) = fusion_processes()
    os.kill(number, signal.SIGKILL)
    robot.wait(lambda: fusion_processes() - {number}, "another process")
    robot.wait_for_state("active")
    robot.sending = set(ALL)
    robot.wait_for_set(*ALL)


def test_rviz_shows_the_topics_of_the_arguments() -> None:
    source = SourceFileLoader("fusion_launch", str(LAUNCH / "fusion.launch.py")).load_module()
    value = {"namespace": "robot1", "name": "eyes", "rgb_topic": "/cam/color", "depth_topic": "d", "force_topic": ""}
    remappings = dict(source.rviz_remappings({**value, "action_topic": ""}))
    assert remappings["/rgb/image"] == "/cam/color"
    assert remappings["/depth/image"] == "/robot1/d"
    assert remappings["/fusion/predicted/rgb"] == "/robot1/eyes/predicted/rgb"
    shown = re.findall(r"Value: (/\S+)", (LAUNCH.parent / "config" / "fusion.rviz").read_text())
    assert set(shown) <= set(remappings)


@pytest.mark.launch(fixture=with_a_bad_checkpoint)
def test_a_bad_checkpoint_leaves_the_node_unconfigured(robot: Robot) -> None:
    robot.wait_for_state("unconfigured")
    assert robot.state() == "unconfigured"


@pytest.mark.launch(fixture=with_a_parameter_file)
def test_an_argument_that_is_not_given_does_not_hide_the_parameter_file(robot: Robot, checkpoint: Path) -> None:
    robot.wait_for_state("active")
    assert robot.get("checkpoint") == str(checkpoint)
    assert robot.get("max_wait") == 0.2


@pytest.mark.skipif(not plays_bags(), reason="ros2 bag is not installed (ros-<distro>-rosbag2)")
@pytest.mark.launch(fixture=with_a_bag)
def test_a_bag_is_replayed_in_simulated_time_into_the_namespace(domain: int) -> None:
    robot = Robot(domain, fusion="/robot1/fusion", topics="/robot1")
    try:
        latent = robot.wait_for_set(*ALL)
        assert latent.header.stamp.sec < 1_600_000_000, "the bag is of 2019"
    finally:
        robot.close()


@pytest.mark.launch(fixture=with_a_noted_player)
def test_the_player_leaves_time_for_discovery_and_gets_more_arguments_last(
    domain: int, noted: Path, tmp_path: Path
) -> None:
    robot = Robot(domain, fusion="/robot1/fusion", topics="/robot1")
    try:
        robot.wait(noted.exists, "the player")
    finally:
        robot.close()
    arguments = noted.read_text().splitlines()
    assert arguments[:3] == ["bag", "play", str(tmp_path / "monday")]
    assert float(arguments[arguments.index("--delay") + 1]) >= 3.0
    assert {"--clock", "/rgb/image:=/robot1/rgb/image"} <= set(arguments)
    assert arguments[-2:] == ["--rate", "0.5"]


@pytest.mark.parametrize(
    ("file", "names"),
    [
        (
            "fusion.launch.py",
            {
                "checkpoint",
                "params_file",
                "device",
                "namespace",
                "use_sim_time",
                "bag",
                "log_level",
                "name",
                "autostart",
                "respawn",
                "rviz",
                "rgb_topic",
                "depth_topic",
                "force_topic",
            },
        ),
        ("replay.launch.py", {"bag", "checkpoint", "device", "namespace"}),
    ],
)
def test_show_args_explains_every_argument(file: str, names: set[str]) -> None:
    description = PythonLaunchDescriptionSource(str(LAUNCH / file)).get_launch_description(LaunchContext())
    arguments = {argument.name: argument.description for argument in description.get_launch_arguments()}
    assert names <= set(arguments)
    for name, text in arguments.items():
        assert len(text) > 20 and text != "no description given", name


@pytest.mark.parametrize("argument", ["params_file", "bag"])
def test_a_file_that_is_not_there_starts_nothing(argument: str, tmp_path: Path) -> None:
    service = LaunchService(noninteractive=True)
    service.include_launch_description(launched(**{argument: tmp_path / "mine"}))
    assert service.run() == 1


def test_large_images_get_their_shared_memory_unless_another_profile_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "mine.xml")
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "")
    monkeypatch.delenv("FASTDDS_DEFAULT_PROFILES_FILE")
    context = LaunchContext()
    description = PythonLaunchDescriptionSource(str(LAUNCH / "fusion.launch.py")).get_launch_description(context)
    for entity in description.entities:
        if isinstance(entity, SetEnvironmentVariable):
            entity.execute(context)
    assert context.environment["FASTRTPS_DEFAULT_PROFILES_FILE"] == "mine.xml"
    assert "33554432" in Path(context.environment["FASTDDS_DEFAULT_PROFILES_FILE"]).read_text()

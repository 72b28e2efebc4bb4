"""simulation.launch.py, launched. It needs launch, which ROS 2 brings and PyPI does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

launch_pytest = pytest.importorskip(
    "launch_pytest", reason="launch_pytest is not installed: it comes with ROS 2 (ros-<distro>-launch-pytest)"
)

if not hasattr(pytest.fixture(lambda: None), "_pytestfixturefunction"):
    pytest.skip(f"launch_pytest needs pytest < 8.4, found {pytest.__version__}", allow_module_level=True)

from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_pytest.actions import ReadyToTest

from launch import LaunchDescription

from ..ros.robot import ALL, Robot, own_domain

LAUNCH = Path(__file__).parents[2] / "launch"


@pytest.fixture
def domain() -> Iterator[int]:
    """A ROS domain of the test's own, for the launched processes too."""
    with own_domain() as number:
        yield number


@launch_pytest.fixture
def simulated(domain: int, checkpoint: Path) -> LaunchDescription:
    source = PythonLaunchDescriptionSource(str(LAUNCH / "simulation.launch.py"))
    arguments = [("namespace", "lab"), ("checkpoint", str(checkpoint))]
    return LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments), ReadyToTest()])


@pytest.mark.rendering
@pytest.mark.launch(fixture=simulated)
def test_the_simulated_robot_is_fused_in_its_namespace(domain: int) -> None:
    listener = Robot(domain, fusion="/lab/fusion", topics="/elsewhere")
    try:
        listener.wait_for_set(*ALL)
    finally:
        listener.close()

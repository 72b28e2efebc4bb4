"""constraints.txt pins all that make installs."""

import re
from configparser import ConfigParser
from importlib.metadata import Distribution
from pathlib import Path

import pytest

PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture
def pins(root: Path) -> dict[str, str]:
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    matches = {line: PIN.fullmatch(line) for line in lines}
    assert [line for line, match in matches.items() if not match] == []
    found = [(canonical(match[1]), match[2]) for match in matches.values() if match]
    assert len(found) == len(dict(found)), "a name is pinned twice"
    return dict(found)


def test_each_requirement_of_setup_cfg_is_pinned(root: Path, pins: dict[str, str]) -> None:
    settings = ConfigParser()
    settings.read(root / "setup.cfg")
    lists = [settings["options"]["install_requires"], *settings["options.extras_require"].values()]
    names = {re.split(r"[<>=!~]", line)[0] for text in lists for line in text.split("\n") if line}
    assert len(names) > 10
    assert {canonical(name) for name in names} - set(pins) == set()


def test_each_ros_package_is_pinned(root: Path, pins: dict[str, str]) -> None:
    lines = (root / "environment" / "ros-packages.txt").read_text().splitlines()
    names = {canonical(line) for line in lines if line and not line.startswith("#")}
    assert "ros-jazzy-rclpy" in names
    assert names - set(pins) == set()


def test_the_environment_holds_nothing_but_the_pinned_versions(root: Path, pins: dict[str, str]) -> None:
    # Under a sourced ROS 2 NumPy is that ROS 2's own, which does not lie in .venv.
    folders = (root / ".venv").glob("lib/python3*/site-packages/*.dist-info")
    found = [Distribution.at(folder) for folder in folders]
    installed = {canonical(distribution.metadata["Name"]): distribution.version.split("+")[0] for distribution in found}
    assert {"torch", "pytest"} <= set(installed)
    assert {name: version for name, version in installed.items() if pins.get(name) != version} == {}

"""package.xml, setup.cfg, CHANGELOG.rst and the Python packages agree, and rosdep finds what the package needs."""

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

from catkin_pkg.changelog import get_changelog_from_path
from catkin_pkg.package import parse_package
from setuptools import find_packages

import smvae_core

ROS_INTERFACES = {"sensor_msgs", "geometry_msgs", "diagnostic_msgs", "std_srvs", "lifecycle_msgs", "std_msgs"}
ROS_LIBRARIES = {"rclpy", "launch_ros", "sensor_msgs_py", "cv_bridge"}
PYTHON_LIBRARIES = {"python3-pytorch-pip", "python3-numpy", "python3-h5py", "python3-opencv", "python3-scipy"}


def test_the_manifest_is_valid_and_of_the_build_type_that_makes_messages(root: Path) -> None:
    package = parse_package(str(root))
    package.validate()
    assert package.get_build_type() == "ament_cmake"
    assert {group.name for group in package.member_of_groups} == {"rosidl_interface_packages"}
    assert "rosidl_default_generators" in {d.name for d in package.buildtool_depends}


def test_what_runs_is_declared(root: Path) -> None:
    package = parse_package(str(root))
    declared = {dependency.name for dependency in package.exec_depends}
    assert ROS_INTERFACES | ROS_LIBRARIES | PYTHON_LIBRARIES | {"rosidl_default_runtime"} <= declared
    assert {"python3-pytest", "launch_pytest"} <= {dependency.name for dependency in package.test_depends}


def test_the_keys_of_rosdep_that_pip_installs_are_left_to_pip(root: Path) -> None:
    package = parse_package(str(root))
    keys = {d.name for d in [*package.exec_depends, *package.test_depends] if d.name.endswith("-pip")}
    skipped = re.search(r'--skip-keys "(.*)"', (root / "README.md").read_text())
    assert skipped and set(skipped[1].split()) == keys


def test_what_this_python_lacks_is_printed_for_pip(root: Path, tmp_path: Path) -> None:
    (tmp_path / "environment").mkdir()
    shutil.copy(root / "environment" / "missing.py", tmp_path / "environment")
    (tmp_path / "setup.cfg").write_text(
        "[options]\ninstall_requires =\n    torch>=2.4\n    numpy>=999\n    opencv-python-headless>=4\n"
        "    nowhere>=1.0\n[options.extras_require]\nsim =\n    elsewhere\n"
    )
    assert missing(tmp_path) == (0, ["numpy>=999", "nowhere>=1.0"])
    assert missing(tmp_path, "sim") == (0, ["numpy>=999", "nowhere>=1.0", "elsewhere"])
    assert missing(tmp_path, "sims") == (2, [])


def missing(root: Path, *extras: str) -> tuple[int, list[str]]:
    """Return the exit code and the lines of environment/missing.py."""
    command = [sys.executable, str(root / "environment" / "missing.py"), *extras]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout.splitlines()


def test_one_version_and_one_licence(root: Path) -> None:
    package = parse_package(str(root))
    settings = ConfigParser()
    settings.read(root / "setup.cfg")
    assert package.version == smvae_core.__version__
    assert package.licenses == [settings["metadata"]["license"]] == ["Apache-2.0"]
    assert "Apache License" in (root / "LICENSE").read_text()


def test_pip_finds_every_python_package(root: Path) -> None:
    settings = ConfigParser()
    settings.read(root / "setup.cfg")
    found = find_packages(str(root), include=settings["options.packages.find"]["include"].split())
    on_disk = {
        ".".join(path.parent.relative_to(root).parts)
        for top in ("smvae_core", "smvae_ros")
        for path in (root / top).rglob("__init__.py")
    }
    assert set(found) == on_disk


def test_the_changelog_begins_with_the_version(root: Path) -> None:
    changelog = get_changelog_from_path(str(root / "CHANGELOG.rst"), "smvae_ros")
    versions = [version for version, _, _ in changelog.foreach_version(reverse=True)]
    assert versions[0] == parse_package(str(root)).version
    assert versions == sorted(versions, key=lambda version: [int(part) for part in version.split(".")], reverse=True)

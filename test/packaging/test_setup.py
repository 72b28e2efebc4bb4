"""The set-up names what a machine lacks, and does nothing the second time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with all the programs that the set-up needs, to be a PATH of its own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "git", "make", "cc", "c++"):
        (folder / name).symlink_to(str(shutil.which(name)))
    (folder / "python3").symlink_to(os.path.realpath(sys.executable))
    return folder


def check(root: Path, tools: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs environment/check.sh on a machine that has these tools only."""
    command = [str(tools / "bash"), str(root / "environment" / "check.sh"), *arguments]
    variables = {"PATH": str(tools), "OS_RELEASE": "/dev/null", **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)


def test_a_machine_with_everything_passes_silently(root: Path, tools: Path) -> None:
    result = check(root, tools)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("program", "package"), [("c++", "g++"), ("git", "git"), ("make", "make"), ("python3", "python3-venv")]
)
def test_what_is_missing_is_named_with_the_line_that_installs_it(
    root: Path, tools: Path, program: str, package: str
) -> None:
    (tools / program).unlink()
    result = check(root, tools)
    line = next(line for line in result.stderr.splitlines() if "apt-get install" in line)
    assert result.returncode == 2
    assert package in line.split()
    assert check(root, tools, "--packages").stdout.split() == line.split("install -y ")[1].split()


def test_a_missing_browser_is_named_for_the_tests(root: Path, tools: Path) -> None:
    result = check(root, tools, "--rendering")
    assert result.returncode == 2
    assert "a browser (Chromium or Chrome)" in result.stderr
    assert "chromium" in check(root, tools, "--rendering", "--packages").stdout.split()
    (tools / "chromium").symlink_to(tools / "git")
    assert "browser" not in check(root, tools, "--rendering").stderr


def test_ubuntu_whose_chromium_is_a_snap_is_told_of_playwrights(root: Path, tools: Path, tmp_path: Path) -> None:
    (release := tmp_path / "os-release").write_text('NAME="Ubuntu"\nID=ubuntu\n')
    result = check(root, tools, "--rendering", OS_RELEASE=str(release))
    assert result.returncode == 2
    assert ".venv/bin/playwright install --with-deps chromium" in result.stderr
    assert "chromium" not in check(root, tools, "--rendering", "--packages", OS_RELEASE=str(release)).stdout.split()
    (installed := tmp_path / "browsers" / "chromium-1234").mkdir(parents=True)
    found = check(root, tools, "--rendering", OS_RELEASE=str(release), PLAYWRIGHT_BROWSERS_PATH=str(installed.parent))
    assert "browser" not in found.stderr


def test_an_old_python_is_named_with_its_version(root: Path, tools: Path) -> None:
    (tools / "python3").unlink()
    (tools / "python3").write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.10" && exit 0\nexit 1\n')
    (tools / "python3").chmod(0o755)
    result = check(root, tools)
    assert result.returncode == 2
    assert "Python 3.10 or newer" in result.stderr
    assert "Python 3.8.10" in result.stderr


def test_an_old_ros_is_named_with_what_to_do(root: Path, tools: Path) -> None:
    (tools / "python3").unlink()
    (tools / "python3").write_text('#!/bin/sh\ncase "$2" in *event_handler*) exit 1 ;; esac\n')
    (tools / "python3").chmod(0o755)
    result = check(root, tools, ROS_DISTRO="humble")
    assert result.returncode == 2
    assert "ROS 2 Jazzy or newer (the sourced one is humble" in result.stderr
    assert "ROS 2" not in check(root, tools).stderr


def test_make_stops_before_it_builds_where_the_compiler_is_missing(root: Path, tools: Path) -> None:
    (tools / "c++").unlink()
    command = [str(tools / "make"), "-C", str(root), "build", f"SHELL={tools / 'bash'}"]
    result = subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, text=True, timeout=60)
    assert result.returncode != 0
    assert "C and C++ compiler" in result.stderr
    assert "colcon" not in result.stdout + result.stderr


def test_a_second_setup_changes_nothing(root: Path) -> None:
    stamp = root / ".venv" / "setup-complete.json"
    before = stamp.stat().st_mtime_ns
    result = subprocess.run(
        ["make", "-C", str(root), "--no-print-directory", "setup"], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert stamp.stat().st_mtime_ns == before

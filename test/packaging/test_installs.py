"""colcon and pip install the packages, the checkpoint and working commands."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest
from ament_index_python.packages import get_package_prefix, get_package_share_directory

CHECKPOINT = "checkpoints/peg_insertion.safetensors"
COMMANDS = {"simulate", "train", "evaluate", "info", "bag", "replay"}


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip builds from the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # A copy, because setuptools builds in the tree, where colcon's build/ is.
    for package in ("smvae_core", "smvae_ros"):
        shutil.copytree(root / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "setup.cfg", "LICENSE"):
        shutil.copy(root / name, source)
    pip("wheel", "--no-build-isolation", "-w", str(folder), str(source))
    return next(folder.glob("smvae_ros-*.whl"))


def test_the_wheel_holds_both_packages_the_checkpoint_and_the_commands(root: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = next(archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    sources = {
        str(path.relative_to(root))
        for top in ("smvae_core", "smvae_ros")
        for kind in ("*.py", "py.typed", "*.html", "*.css", "*.js")
        for path in (root / top).rglob(kind)
    }
    assert {"smvae_core/py.typed", "smvae_ros/py.typed", "smvae_ros/report/page.html"} <= sources <= names
    assert f"smvae_core/{CHECKPOINT}" in names
    assert {line.split(" = ")[0] for line in entry_points.splitlines() if " = " in line} == {
        "smvae",
        "fusion_node",
        "simulated_robot",
    }
    assert not [name for name in names if name.startswith("test")]


def test_a_pip_install_works_without_ros(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    pip("install", "--target", str(target), str(wheel))
    probe = """
import sys
sys.modules["rclpy"] = None
import smvae_ros.cli
sys.argv = ["smvae", "info"]
smvae_ros.cli.main()
"""
    result = run([sys.executable, "-c", probe], tmp_path, PYTHONPATH=str(target))
    assert result.returncode == 0, result.stderr
    assert "rgb" in result.stdout


@pytest.mark.parametrize(("command", "named"), [("smvae", COMMANDS), ("fusion_node", {"--ros-args"})])
def test_the_commands_run_from_the_colcon_install(command: str, named: set[str], tmp_path: Path) -> None:
    script = Path(get_package_prefix("smvae_ros")) / "lib" / "smvae_ros" / command
    assert script.read_text().startswith("#!/usr/bin/env python3\n")
    result = run([str(script), "--help"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert named <= set(re.findall(r"[\w-]+", result.stdout))


def test_the_colcon_install_holds_what_the_launch_files_need() -> None:
    share = Path(get_package_share_directory("smvae_ros"))
    assert (share / "config" / "fusion.yaml").is_file()
    assert (share / "launch" / "fusion.launch.py").is_file()
    assert list((share / "recordings" / "peg_insertion").glob("*.mcap"))
    assert (files("smvae_core") / CHECKPOINT).is_file()
    assert (files("smvae_core") / "py.typed").is_file()
    assert (files("smvae_ros") / "py.typed").is_file()
    assert (files("smvae_ros.report") / "page.html").is_file()


def pip(command: str, *arguments: str) -> None:
    """Run pip without an index and without dependencies."""
    options = ["--quiet", "--no-deps", "--no-index"]
    subprocess.run([sys.executable, "-m", "pip", command, *options, *arguments], check=True, timeout=300)


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder that is not the source tree, wide enough that no table is cut."""
    environment = os.environ | {"COLUMNS": "200"} | environment
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)

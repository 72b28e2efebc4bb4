"""The set-up names what a machine lacks, installs it where it may, and does nothing the second time."""

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from runpy import run_path

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
    """Run environment/check.sh on a machine that has these tools only, without a terminal."""
    command = [str(tools / "bash"), str(root / "environment" / "check.sh"), *arguments]
    variables = {"PATH": str(tools), "OS_RELEASE": "/dev/null", **environment}
    return subprocess.run(
        command, cwd=tools.parent, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def packages_of(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the Debian packages in the line that installs what is missing."""
    lines = [line for line in result.stderr.splitlines() if "apt-get install" in line]
    return lines[0].split("install -y ")[1].split() if lines else []


def apt_get(tools: Path, brings: Path | None) -> Path:
    """Put an apt-get among the tools that notes its arguments and links the tool that it brings; return the notes."""
    notes = tools.parent / "notes"
    link = f'/bin/ln -s "{brings}" "{tools}"' if brings else "exit 100"
    (tools / "apt-get").write_text(f'#!{tools / "bash"}\necho "$*" >> "{notes}"\ncase $1 in install) {link} ;; esac\n')
    (tools / "apt-get").chmod(0o755)
    (tools / "env").symlink_to("/usr/bin/env")
    return notes


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root installs without being asked; run this as root")


@needs_root
def test_root_without_a_terminal_installs_what_is_missing(root: Path, tools: Path) -> None:
    git = (tools / "git").resolve()
    (tools / "git").rename(tools.parent / "git")
    notes = apt_get(tools, tools.parent / "git")
    result = check(root, tools, "--install")
    assert result.returncode == 0, result.stderr
    update, install = notes.read_text().splitlines()
    assert update == "update -qq"
    assert install.startswith("install -y ") and install.endswith(" --no-install-recommends git")
    assert (tools / "git").resolve() == git


@needs_root
def test_an_installation_that_fails_ends_with_the_line_to_run(root: Path, tools: Path) -> None:
    (tools / "git").unlink()
    apt_get(tools, None)
    result = check(root, tools, "--install")
    assert result.returncode == 2
    assert packages_of(result) == ["git"]
    assert "Not all of it could be installed" in result.stderr


@needs_root
def test_the_steps_of_an_installation_are_silent_and_what_is_wrong_is_told(root: Path, tools: Path) -> None:
    (tools / "git").unlink()
    (tools / "env").symlink_to("/usr/bin/env")
    steps = '[ $1 = update ] || { echo "Unpacking"; echo "E: no space left" >&2; exit 100; }'
    (tools / "apt-get").write_text(f"#!{tools / 'bash'}\n{steps}\n")
    (tools / "apt-get").chmod(0o755)
    result = check(root, tools, "--install")
    assert "Unpacking" not in result.stdout + result.stderr
    assert "E: no space left" in result.stderr


@needs_root
def test_after_an_installation_that_went_half_way_only_the_rest_is_named(root: Path, tools: Path) -> None:
    (tools / "git").rename(tools.parent / "git")
    apt_get(tools, tools.parent / "git")
    release = tools.parent / "os-release"
    release.write_text("ID=ubuntu\n")
    result = check(root, tools, "--rendering", "--install", OS_RELEASE=str(release))
    before, after = result.stderr.split("That failed: .venv/bin/playwright install --with-deps chromium")
    assert result.returncode == 0, "all other tests can run"
    assert "  - git" in before and "  - a browser" in before
    assert "  - git" not in after and "  - a browser" in after


@pytest.mark.parametrize(("answer", "code", "asked"), [("n", 2, 0), ("", 0, 2), ("y", 0, 2)])
def test_with_a_terminal_it_asks_first(root: Path, tools: Path, answer: str, code: int, asked: int) -> None:
    (tools / "git").rename(tools.parent / "git")
    notes = apt_get(tools, tools.parent / "git")
    # As another user, sudo asks for a password: here it needs none.
    (tools / "sudo").write_text(f'#!{tools / "bash"}\nexec "$@"\n')
    (tools / "sudo").chmod(0o755)
    ours, theirs = pty.openpty()
    command = [str(tools / "bash"), str(root / "environment" / "check.sh"), "--install"]
    with subprocess.Popen(
        command, env={"PATH": str(tools)}, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        os.write(ours, f"{answer}\n".encode())
        output, _ = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == code, output
    assert "sudo apt-get update && sudo apt-get install -y git" in output
    assert len(notes.read_text().splitlines() if notes.exists() else []) == asked


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


def test_a_missing_browser_is_named_for_the_tests(root: Path, tools: Path) -> None:
    result = check(root, tools, "--rendering")
    assert result.returncode == 0, "all other tests can run"
    assert "a browser (Chromium or Chrome)" in result.stderr
    assert "chromium" in packages_of(result)
    assert "The tests that need this are skipped" in result.stderr
    (tools / "chromium").symlink_to(tools / "git")
    assert "browser" not in check(root, tools, "--rendering").stderr


def test_what_the_simulated_robot_draws_with_is_needed_but_no_browser(root: Path, tools: Path) -> None:
    (tools / "ldconfig").write_text(f"#!{tools / 'bash'}\n")
    (tools / "ldconfig").chmod(0o755)
    result = check(root, tools, "--drawing")
    assert result.returncode == 2
    assert {"libegl1", "libopengl0"} <= set(packages_of(result))
    assert "browser" not in result.stderr
    assert check(root, tools, "--rendering").returncode == 0, "all other tests can run"


def test_ubuntu_whose_chromium_is_a_snap_is_told_of_playwrights(root: Path, tools: Path, tmp_path: Path) -> None:
    (release := tmp_path / "os-release").write_text('NAME="Ubuntu"\nID=ubuntu\n')
    result = check(root, tools, "--rendering", OS_RELEASE=str(release))
    assert result.returncode == 0
    assert ".venv/bin/playwright install --with-deps chromium" in result.stderr
    assert "chromium" not in packages_of(result)
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


def test_the_output_of_pip_is_condensed_to_its_main_steps(root: Path) -> None:
    condensed = run_path(str(root / "environment" / "pip_progress.py"))["condensed"]
    lines = [
        *(f"Collecting package{number}==1.0\n" for number in range(30)),
        "  Downloading small-1.0-py3-none-any.whl (12 kB)\n",
        "  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (887.9 MB)\n",
        "  Downloading nvidia_cublas-13.1.1.3-py3-none-manylinux_2_27_x86_64.whl (1.1 GB)\n",
        "  Building wheel for empy (setup.py): started\n",
        "  Building wheel for empy (setup.py): finished with status 'done'\n",
        "Installing collected packages: torch, small, empy\n",
    ]
    assert list(condensed(lines)) == [
        "25 packages found",
        "downloading torch 2.13.0 (888 MB)",
        "downloading nvidia_cublas 13.1.1.3 (1100 MB)",
        "building empy",
        "installing 3 packages",
    ]


def test_a_second_setup_changes_nothing(root: Path) -> None:
    stamp = root / ".venv" / "setup-complete.json"
    before = stamp.stat().st_mtime_ns
    result = subprocess.run(
        ["make", "-C", str(root), "--no-print-directory", "setup"], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert stamp.stat().st_mtime_ns == before

"""What test/conftest.py promises: shared memory is given back, and tests that do not run are listed with the reason."""

import fcntl
import subprocess
import sys
from pathlib import Path
from runpy import run_path


def unused_segments() -> set[str]:
    """Return the lock files of Fast DDS that no process holds."""
    found = set()
    for path in Path("/dev/shm").glob("fastrtps_*_el"):
        try:
            with path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found.add(path.name)
        except OSError:
            pass
    return found


def test_segments_of_a_killed_node_are_removed_and_those_of_a_living_one_stay(root: Path, tmp_path: Path) -> None:
    remove = run_path(str(root / "test" / "conftest.py"))["remove_unused_segments"]
    for name in ("fastrtps_dead", "fastrtps_dead_el", "sem.fastrtps_dead_mutex", "fastrtps_alive", "fastrtps_alive_el"):
        (tmp_path / name).touch()
    with (tmp_path / "fastrtps_alive_el").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        remove(tmp_path.glob("*_el"))
    assert {path.name for path in tmp_path.iterdir()} == {"fastrtps_alive", "fastrtps_alive_el"}


TESTS = """
import subprocess, sys
import pytest

@pytest.mark.skip(reason="no spoon: sudo apt-get install -y spoon")
def test_of_spoons():
    pass

def test_that_kills_a_node():
    code = "import rclpy; rclpy.init(); node = rclpy.create_node('killed'); print(flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    process.kill()
    process.wait()
"""


def test_a_session_lists_what_did_not_run_and_leaves_no_segments(root: Path, tmp_path: Path) -> None:
    (tmp_path / "__init__.py").touch()
    (tmp_path / "test_sample.py").write_text(TESTS)
    (tmp_path / "conftest.py").symlink_to(root / "test" / "conftest.py")
    before = unused_segments()
    command = [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert "no spoon: sudo apt-get install -y spoon\n  test_sample.py::test_of_spoons\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 passed, 1 skipped")
    assert unused_segments() <= before


def test_python_m_pytest_in_the_source_folder_imports_the_built_package(root: Path, tmp_path: Path) -> None:
    (tmp_path / "__init__.py").touch()
    (tmp_path / "test_sample.py").write_text("from smvae_ros.msg import Latent\n\ndef test_it(): assert Latent()\n")
    (tmp_path / "conftest.py").symlink_to(root / "test" / "conftest.py")
    command = [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout

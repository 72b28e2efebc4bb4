"""Settings of all tests: no deadline, no shared memory left behind, and a list of the tests that did not run."""

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from _pytest.terminal import TerminalReporter
from hypothesis import settings

# No deadline: on a busy machine any example may take longer than the 200 ms that hypothesis allows by default.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# What a shell without job control starts in its background ignores Ctrl-C, and so would every process of a test.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_MEMORY = Path("/dev/shm")

EXTRAS = {"av": "sim", "distributed": "cluster", "mujoco": "sim", "onnx": "onnx", "onnxruntime": "onnx"}
"""The extra that brings a package."""
INSTALL = "pip install '.[{}]' in the source folder"

# `python -m pytest` puts the working directory first, and the source folder would hide the built package.
_others = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent.parent]
if PathFinder.find_spec("smvae_ros", _others):
    sys.path[:] = _others

if int(pytest.__version__.split(".")[0]) < 8:
    # Relative imports of tests need the package `test` of this folder; older versions of pytest find Python's own.
    _spec = spec_from_file_location("test", str(Path(__file__).with_name("__init__.py")))
    assert _spec and _spec.loader
    sys.modules["test"] = module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["test"])


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, None]:
    """Skip the test files that import a package of an extra which is not installed."""
    outcome = yield
    skip_without_extra(outcome.get_result(), str(collector.path))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Skip the tests that need a package of an extra which is not installed."""
    outcome = yield
    skip_without_extra(outcome.get_result(), str(item.path))


def skip_without_extra(report: Any, path: str) -> None:
    """Turn the report of a failure for want of a package into that of a skip, with the line that changes it."""
    found = re.search(r"(?:No module named|the package) '(\w+)", str(report.longrepr)) if report.failed else None
    if found and (extra := EXTRAS.get(found[1])) and find_spec(found[1]) is None:
        report.outcome = "skipped"
        report.longrepr = (path, None, f"{found[1]} is not installed: {INSTALL.format(extra)}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `rendering` on a machine that cannot draw off-screen."""
    marked = [item for item in items if item.get_closest_marker("rendering")]
    if marked and (problem := drawing_problem()):
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=problem))


@cache
def drawing_problem() -> str:
    """Return why MuJoCo cannot draw off-screen, with the line that changes it; empty if it can."""
    if find_spec("mujoco") is None:
        return f"mujoco is not installed: {INSTALL.format(EXTRAS['mujoco'])}"
    probe = "import mujoco; context = mujoco.GLContext(8, 8); context.make_current()"
    environment = {"MUJOCO_GL": "egl"} | os.environ
    done = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, check=False)
    if done.returncode == 0:
        return ""
    return "MuJoCo cannot draw off-screen: sudo apt-get install -y libegl1 libopengl0 libgl1-mesa-dri"


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """List the tests that did not run by reason, which names the line that changes it."""
    by_reason: dict[str, set[str]] = defaultdict(set)
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        by_reason[reason.removeprefix("Skipped: ")].add(report.nodeid)
    if by_reason:
        terminalreporter.section("tests that did not run")
    for reason, tests in sorted(by_reason.items()):
        terminalreporter.line(reason)
        for test in sorted(tests):
            terminalreporter.line(f"  {test}")


@pytest.fixture(scope="session", autouse=True)
def no_shared_memory_is_left() -> Iterator[None]:
    """Remove the segments of Fast DDS that processes of this session left, such as those of killed nodes."""
    before = set(SHARED_MEMORY.glob("fastrtps_*_el"))
    yield
    remove_unused_segments(path for path in SHARED_MEMORY.glob("fastrtps_*_el") if path not in before)


def remove_unused_segments(locks: Iterable[Path]) -> None:
    """Remove each segment whose lock file no living process holds, as `fastdds shm clean` does.

    Args:
        locks: lock files, `fastrtps_<name>_el` beside the segment `fastrtps_<name>`.
    """
    for lock in locks:
        try:
            with lock.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        segment = lock.with_name(re.sub("_el$", "", lock.name))
        for path in (segment, lock, lock.with_name(f"sem.{segment.name}_mutex")):
            path.unlink(missing_ok=True)

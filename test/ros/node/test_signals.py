"""Ending signals, in any number and at any time from the first line of `main` on: exit code 0 and no traceback."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any

import pytest

from ..robot import ALL, PATIENCE_S, FusionProcess, Robot, own_domain


def signal_until_it_ends(process: FusionProcess, seed: int) -> int:
    """Send signals at random intervals until the process has ended; return its exit code."""
    random, deadline = Random(seed), monotonic() + PATIENCE_S
    while process.process.poll() is None:
        assert monotonic() < deadline, process.output()
        process.process.send_signal(random.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))
        sleep(random.choice([0.0, 0.001, 0.01, 0.05]))
    return process.process.returncode


@contextmanager
def fusing(checkpoint: Path, log: Path, popen: Callable[..., Any]) -> Iterator[tuple[FusionProcess, Robot]]:
    """A node that is started by `popen` and fuses what a robot sends."""
    with own_domain() as domain:
        process = FusionProcess(log, {"checkpoint": checkpoint}, popen=popen)
        robot = Robot(domain)
        try:
            robot.sending = set(ALL)
            robot.wait_for_set(*ALL)
            yield process, robot
        finally:
            robot.close()
            process.kill()


@pytest.mark.parametrize("seed", range(3))
def test_any_number_of_signals_while_it_starts(checkpoint: Path, tmp_path: Path, seed: int) -> None:
    with own_domain():
        process = FusionProcess(tmp_path / "log", {"checkpoint": checkpoint}, popen=subprocess.Popen)
        try:
            process.wait_for_handlers()
            assert signal_until_it_ends(process, seed) == 0
        finally:
            process.kill()
    assert "Traceback" not in process.output()


@pytest.mark.parametrize("seed", range(3))
def test_any_number_of_signals_while_it_fuses(checkpoint: Path, tmp_path: Path, seed: int) -> None:
    with fusing(checkpoint, tmp_path / "log", subprocess.Popen) as (process, _):
        assert signal_until_it_ends(process, seed) == 0
    assert "Traceback" not in process.output()
    assert "closing summary" in process.output()


def test_a_node_that_ignores_hangups_goes_on_when_its_terminal_is_closed(checkpoint: Path, tmp_path: Path) -> None:
    with fusing(checkpoint, tmp_path / "log", ignoring_hangups) as (process, robot):
        process.process.send_signal(signal.SIGHUP)
        robot.wait_for_new_latents(20)
        assert process.end(signal.SIGINT) == 0


def ignoring_hangups(command: list[str], **options: Any) -> subprocess.Popen:
    """Start a program as nohup does."""
    return subprocess.Popen(["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command], **options)


def test_a_node_without_standard_streams_runs_as_any_other(checkpoint: Path, tmp_path: Path) -> None:
    with fusing(checkpoint, tmp_path / "log", without_streams) as (process, _):
        assert process.end(signal.SIGINT) == 0


def without_streams(command: list[str], **options: Any) -> subprocess.Popen:
    """Start a program with standard input, output and error closed."""
    return subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command], **options)

"""SIGINT and SIGTERM, in any number and at any time from the first line of `main` on: exit code 0 and no traceback."""

import signal
import subprocess
from pathlib import Path
from random import Random
from time import monotonic, sleep

import pytest

from ..robot import ALL, PATIENCE_S, FusionProcess, Robot, own_domain


def signal_until_it_ends(process: FusionProcess, seed: int) -> int:
    """Send signals at random intervals until the process has ended; return its exit code."""
    random, deadline = Random(seed), monotonic() + PATIENCE_S
    while process.process.poll() is None:
        assert monotonic() < deadline, process.output()
        process.process.send_signal(random.choice([signal.SIGINT, signal.SIGTERM]))
        sleep(random.choice([0.0, 0.001, 0.01, 0.05]))
    return process.process.returncode


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
    with own_domain() as domain:
        process = FusionProcess(tmp_path / "log", {"checkpoint": checkpoint}, popen=subprocess.Popen)
        robot = Robot(domain)
        try:
            robot.sending = set(ALL)
            robot.wait_for_set(*ALL)
            assert signal_until_it_ends(process, seed) == 0
        finally:
            robot.close()
            process.kill()
    assert "Traceback" not in process.output()
    assert "closing summary" in process.output()

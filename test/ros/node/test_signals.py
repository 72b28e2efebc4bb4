"""SIGINT and SIGTERM, in any number and at any time from the first line of `main` on: exit code 0 and no traceback."""

import re
import signal
import subprocess
from pathlib import Path
from random import Random
from time import monotonic, sleep

import pytest

from ...programs import wait_until
from ..robot import ALL, PATIENCE_S, FusionProcess, Robot, own_domain


def wait_for_handlers(process: FusionProcess) -> None:
    """Wait until the process catches SIGTERM, as it does from the first line of `main` on."""
    status = Path(f"/proc/{process.process.pid}/status")
    caught = re.compile(r"^SigCgt:\s*(\w+)", re.MULTILINE)
    handled = 1 << (signal.SIGTERM - 1)
    wait_until(lambda: int(caught.search(status.read_text())[1], 16) & handled, process.process, every_s=0.001)


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
            wait_for_handlers(process)
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

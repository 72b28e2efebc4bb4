"""The processes of the benchmarks end, or are ended."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

ROOT = Path(__file__).parents[3]
# The root of the repository is not among the places that Python imports from, and may only be the last of them.
sys.path.append(str(ROOT))
from benchmarks.run import run  # noqa: E402

sys.path.remove(str(ROOT))
PATIENCE_S = 60.0

PARENT = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "1000"])
open(sys.argv[1], "w").write(str(child.pid))
{then}
"""


def wait(ready, what: str) -> None:
    deadline = monotonic() + PATIENCE_S
    while not ready():
        assert monotonic() < deadline, f"waited {PATIENCE_S:g} s for {what}"
        sleep(0.01)


def waits_for_signals(process: subprocess.Popen[str]) -> bool:
    """Return whether a process blocks SIGTERM and SIGINT and no other signal, as the sensors do from their start."""
    fields = dict(line.split(":\t") for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    return int(fields["SigBlk"], 16) == sum(1 << (number - 1) for number in (signal.SIGTERM, signal.SIGINT))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_sensors_end_on_a_signal_and_print_their_stamps(number: signal.Signals) -> None:
    environment = os.environ | {"PYTHONPATH": f"{os.environ['PYTHONPATH']}:{ROOT}"}
    command = [sys.executable, "-m", "benchmarks.sensors", "touch"]
    with subprocess.Popen(command, cwd=ROOT / "test", env=environment, stdout=subprocess.PIPE, text=True) as process:
        wait(lambda: waits_for_signals(process), "the sensors")
        process.send_signal(number)
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert set(json.loads(output)) == {"force", "action"}


@pytest.mark.parametrize(
    ("then", "limit_s", "code"), [("sys.exit(3)", PATIENCE_S, 3), ("signal.pause()", 2.0, 1)], ids=["ended", "hanging"]
)
def test_no_process_of_a_benchmark_is_left(then: str, limit_s: float, code: int, tmp_path: Path) -> None:
    assert run([sys.executable, "-c", PARENT.format(then=then), str(tmp_path / "pid")], limit_s, end_s=0.2) == code
    status = Path("/proc") / (tmp_path / "pid").read_text() / "status"
    wait(lambda: not status.exists() or "State:\tZ" in status.read_text(), "the end of the child")

"""`make bench` ends: each benchmark has a limit, and none of its processes outlives it."""

import os
import subprocess
import sys
from pathlib import Path

# Last, since the built package has the messages that smvae_ros/ of the repository lacks.
sys.path.append(str(Path(__file__).parents[2]))

from benchmarks.run import BENCHMARKS, SOAKS, run

ROOT = Path(__file__).parents[2]


def ended(process: int) -> bool:
    """Whether a process is gone, or has ended and waits for its parent to ask."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_all_benchmarks_but_the_soaks_end_within_forty_minutes():
    assert sum(BENCHMARKS.values()) < 40 * 60
    for name in (*BENCHMARKS, *SOAKS):
        assert (ROOT / "benchmarks" / f"{name}.py").is_file()


def test_the_exit_code_is_the_benchmarks_own():
    assert run([sys.executable, "-c", "raise SystemExit(3)"], limit_s=60.0) == 3


def test_a_benchmark_that_does_not_end_is_killed_with_the_processes_that_it_started(tmp_path, capfd):
    script = f'trap "" INT TERM; sleep 1000 & echo $! $$ > {tmp_path}/ids; wait'
    assert run(["bash", "-c", script], limit_s=3.0, end_s=0.1) == 1
    ids = [int(one) for one in (tmp_path / "ids").read_text().split()]
    assert len(ids) == 2
    for one in ids:
        while not ended(one):
            os.sched_yield()
    assert "ended after 3 s: bash" in capfd.readouterr().err


def test_an_unknown_benchmark_is_one_sentence():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.run", "speed"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected benchmarks among loader, ") and "found speed" in done.stderr

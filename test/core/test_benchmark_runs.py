"""`make bench` ends: each benchmark has a limit, and none of its processes outlives it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Last, since the built package has the messages that smvae_ros/ of the repository lacks.
sys.path.append(str(Path(__file__).parents[2]))

from benchmarks import run as runs
from benchmarks.report import Goal, report
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


def test_a_benchmark_that_fails_leaves_the_sections_of_all_and_the_run_says_so(tmp_path, monkeypatch, capsys):
    results = tmp_path / "RESULTS.md"
    results.write_text("# Results\n\n## Loader\n\nolder\n")
    codes = {"benchmarks.loader": 1, "benchmarks.engine": 0}
    monkeypatch.setattr(runs, "RESULTS", results)
    monkeypatch.setattr(runs, "run", lambda command, limit_s: codes[command[-1]])
    monkeypatch.setattr(sys, "argv", ["run", "loader", "engine"])
    with pytest.raises(SystemExit) as ended:
        runs.main()
    assert ended.value.code == 1 and "error: loader failed" in capsys.readouterr().err
    text = results.read_text()
    assert "## Loader\n\nolder\n" in text and text.count("## The last run\n") == 1
    assert 'BENCHMARKS="loader engine"`' in text and "2 of 2 benchmarks" in text
    loader, engine = (f"{runs.BENCHMARKS[name]:.0f}" for name in ("loader", "engine"))
    assert f"| loader | 0 | {loader} | **failed** (exit code 1)" in text and f"| engine | 0 | {engine} | done |" in text


def test_a_run_that_is_broken_off_says_what_it_did_not_reach(tmp_path, monkeypatch):
    def interrupted(command, limit_s):
        if command[-1] == "benchmarks.engine":
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(runs, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setattr(runs, "run", interrupted)
    monkeypatch.setattr(sys, "argv", ["run", "loader", "engine"])
    with pytest.raises(SystemExit) as ended:
        runs.main()
    assert ended.value.code == 130
    assert "| engine | – | 120 | not reached |" in (tmp_path / "RESULTS.md").read_text()


def test_each_row_has_its_goal_and_its_limit(tmp_path):
    rows = [Goal("speed", "3", "≥ 2", True, "4 (peer)"), Goal("size", "9", "≤ 5", False)]
    report("Title", "command", "how", rows, tmp_path / "RESULTS.md")
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| | measured | goal | limit | met |" in text
    assert "| speed | 3 | ≥ 2 | 4 (peer) | yes |" in text and "| size | 9 | ≤ 5 | – | **no** |" in text

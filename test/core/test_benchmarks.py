"""The benchmarks run, and each leaves the other sections of the results alone."""

import json
import os
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from ..programs import run

ROOT = Path(__file__).parents[2]


def measure(name: str, results: Path, *arguments: object) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--results", results, "--rounds", 1, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = run(list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_each_benchmark_writes_its_section_and_no_other(tmp_path):
    results = tmp_path / "RESULTS.md"
    results.write_text("# Results\n\n## Loader\n\nold\n\n## Other\n\nkept\n")
    measure("caching", results, "--files", 2, "--folder", tmp_path / "logs")
    measure("loader", results, "--files", 30, "--folder", tmp_path / "logs", "--frames", 12)
    measure("training", results, "--size", "tiny")
    measure("systems", results, "--size", "tiny")
    measure("likelihood", results, "--size", "tiny", "--points", 3, "--share", 0.002)
    text = results.read_text()
    assert "old" not in text and "kept" in text
    for title in ("Loader", "LeRobot", "Caching", "Training, cpu", "Systems, cpu", "Likelihood, cpu"):
        assert text.count(f"## {title}\n") == 1
    assert "samples/s from the cache" in text and "against the plain loop" in text
    assert all(
        f"| {system}, against once |" in text for system in ("smvae", "mvae", "mmvae", "mopoe", "jmvae", "crmvae")
    )


def measure_gpu(*arguments: object) -> CompletedProcess:
    command = [sys.executable, "-m", "benchmarks.gpu", "--quick", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "part", ["device", "tests", "agreement", "memory", "failures", "waiting", "engine", "training", "resume"]
)
def test_each_part_of_the_measurement_on_a_gpu_runs_on_a_processor(part, tmp_path):
    verdicts = tmp_path / "verdicts.json"
    done = measure_gpu("--device", "cpu", "--part", part, "--json", verdicts)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(verdicts.read_text())
    assert rows and all(held is not False for _, _, held in rows), rows


def test_the_measurement_on_a_gpu_writes_its_section_alone(tmp_path):
    results = tmp_path / "RESULTS.md"
    results.write_text("# Results\n\n## Other\n\nkept\n")
    done = measure_gpu("--device", "cpu", "--part", "device", "--results", results)
    assert done.returncode == 0, done.stdout + done.stderr
    text = results.read_text()
    assert "kept" in text and text.count("## GPU, cpu\n") == 1
    assert "| device |" in text and "Every statement that was tried holds." in text


def test_a_part_that_fails_is_a_verdict_and_leaves_the_others_alone(tmp_path):
    results = tmp_path / "RESULTS.md"
    arguments = ("--device", "cuda:7", "--part", "agreement", "--part", "device", "--results", results)
    done = measure_gpu(*arguments)
    assert done.returncode == 1
    text = results.read_text()
    assert "| agreement | agreement: runs to its end | exit code 1: " in text and "'cuda:7' was asked for" in text
    assert "| device | a kernel runs on the device |" in text and "**Does not hold:**" in text

"""The benchmarks run, and each leaves the other sections of the results alone."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def measure(name: str, results: Path, *arguments: object) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--results", results, "--rounds", 1, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_each_benchmark_writes_its_section_and_no_other(tmp_path):
    results = tmp_path / "RESULTS.md"
    results.write_text("# Results\n\n## Loader\n\nold\n\n## Other\n\nkept\n")
    measure("caching", results, "--files", 2, "--folder", tmp_path / "logs")
    measure("loader", results, "--files", 30, "--folder", tmp_path / "logs")
    measure("training", results, "--size", "tiny")
    measure("systems", results, "--size", "tiny")
    measure("likelihood", results, "--size", "tiny", "--points", 3, "--share", 0.002)
    text = results.read_text()
    assert "old" not in text and "kept" in text
    for title in ("Loader", "Caching", "Training, cpu", "Systems, cpu", "Likelihood, cpu"):
        assert text.count(f"## {title}\n") == 1
    assert "samples/s from the cache" in text and "against the plain loop" in text
    assert all(
        f"| {system}, against once |" in text for system in ("smvae", "mvae", "mmvae", "mopoe", "jmvae", "crmvae")
    )

"""The trainer's step of each system that MultiVae (Senellart et al. 2025) has too, against MultiVae's own.

`benchmarks.multivae_steps` measures, in the environment of `benchmarks.peers`.
"""

import argparse
import json
import os
import statistics
import subprocess
from pathlib import Path

from benchmarks import peers
from benchmarks.report import RESULTS, Goal, report
from benchmarks.training import BATCH

_GOAL = 1.3
_LIMIT_S = 600.0


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--each", type=int, default=10, help="steps of each a round")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    root = str(Path(__file__).resolve().parents[1])
    command = [str(peers.python()), "-m", "benchmarks.multivae_steps"]
    command += ["--rounds", str(arguments.rounds), "--each", str(arguments.each)]
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=_LIMIT_S)
    lines = []
    for system, found in json.loads(done.stdout).items():
        rounds = found["seconds"]
        ratio = statistics.median(one["theirs"] / one["ours"] for one in rounds)
        limit = statistics.median(one["theirs"] / one["networks"] for one in rounds)
        ours, theirs = (statistics.median(one[name] for one in rounds) for name in ("ours", "theirs"))
        operations = found["operations"]
        lines.append(
            Goal(
                f"{system}: samples a processor second, against MultiVae ({BATCH / ours:.0f} and {BATCH / theirs:.0f}; "
                f"multiply-adds a sample, millions: ours {operations['ours'] / 2e6 / BATCH:.1f}, theirs "
                f"{operations['theirs'] / 2e6 / BATCH:.1f})",
                f"{ratio:.2f}×",
                f"≥ {_GOAL}×",
                ratio >= _GOAL,
                f"{limit:.2f}× (networks alone)",
            )
        )
    report(
        "MultiVae",
        "make bench BENCHMARKS=multivae",
        "A training step with the compact networks on 28×28 pictures and labels, as of Fashion-MNIST, batch "
        f"{BATCH}, one thread: the trainer's, its loader and totals included, against MultiVae 1.0.3 with the same "
        "networks and Adam, on batches that lie ready. Processor time; medians of the ratios in "
        f"{arguments.rounds} alternating rounds of {arguments.each} steps after a warm-up. The limit is what our step "
        "would reach if it were nothing but the networks that the system's bound needs: each modality encoded once, "
        "decoded for each term that explains it, forward and backward, and Adam.",
        lines,
        arguments.results,
    )


if __name__ == "__main__":
    main()

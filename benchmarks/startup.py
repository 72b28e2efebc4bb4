"""The time from the start of the node's process to its first latent received, and its stages.

With `--against FOLDER`, another build's install folder, both builds are started in turn and compared.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import time_ns

from benchmarks.report import RESULTS, Goal, report
from benchmarks.rig import FUSION_NODE, Listener, NodeProcess, of_other_build, rig
from smvae_core.interrupts import interruptible, uninterrupted

_STAGES = ("Python and rclpy", "torch", "the node's other imports", "load", "warm-up")
_GOAL = 0.65
# The node's own steps, one after the other, in a process that prints when each ends.
_SCRIPT = """
from time import time_ns
def done():
    print(time_ns())
import rclpy
done()
from smvae_core.quick_torch import import_torch
import_torch()
done()
import smvae_ros.node.fusion_node, smvae_core.inference.engine
done()
engine = smvae_core.inference.engine.Engine.load(None)
done()
engine.warm_up(compare=False)
done()
"""


def first_latents(commands: dict[str, Sequence[str]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds from start to first latent of each command, in turn, beside sensors that run all the time."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    with rig(FUSION_NODE) as (_, first, listener), tempfile.TemporaryDirectory() as folder:
        listener.wait_for_latent(first)
        first.end()
        for number in range(rounds + 1):
            for name, command in commands.items():
                took = _first_latent(listener, command, Path(folder) / "log")
                if number:  # before the first round, what is read from disk comes into the page cache
                    seconds[name].append(took)
    return seconds


def stages() -> list[float]:
    """Return the seconds of each stage."""
    started_ns = time_ns()
    output = subprocess.run([sys.executable, "-c", _SCRIPT], check=True, stdout=subprocess.PIPE, text=True).stdout
    ends_ns = [started_ns, *map(int, output.split())]
    return [(end - start) / 1e9 for start, end in zip(ends_ns, ends_ns[1:])]


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path, help="install folder of another build")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    commands: dict[str, Sequence[str]] = {"ours": FUSION_NODE}
    if arguments.against:
        commands["other"] = of_other_build(arguments.against, "fusion_node")
    found = first_latents(commands, arguments.rounds)
    parts = [statistics.median(values) for values in zip(*(stages() for _ in range(arguments.rounds)))]
    ours = statistics.median(found["ours"])
    told = ", ".join(f"{name} {part:.2f} s" for name, part in zip(_STAGES, parts))
    lines = [Goal("process start to first latent, s", f"{ours:.2f}", "≤ 8", ours <= 8)]
    if "other" in found:
        ratio = statistics.median(a / b for a, b in zip(found["ours"], found["other"]))
        other = statistics.median(found["other"])
        lines.append(Goal(f"against the other build ({other:.2f} s)", f"{ratio:.2f}×", f"≤ {_GOAL}×", ratio <= _GOAL))
    report(
        "Start-up",
        "make bench BENCHMARKS=startup",
        f"The node's process to the first latent received, beside sensors that run, files in the page cache: median of "
        f"{arguments.rounds}, the longest {max(found['ours']):.2f} s. The limit is importing torch and Python's part "
        f"of ROS 2. Where the time goes, measured step by step in a process of its own: {told}; the back ends are "
        "compared after the first latent.",
        lines,
        arguments.results,
    )


def _first_latent(listener: Listener, command: Sequence[str], log: Path) -> float:
    with uninterrupted():
        node = NodeProcess(command, log)
        try:
            with interruptible():
                # Latents of the node before may still come.
                listener.arrived_ns.clear()
                listener.wait_for_latent(node)
                return (min(listener.arrived_ns.values()) - node.started_ns) / 1e9
        finally:
            node.end()
            listener.listen(1.0)


if __name__ == "__main__":
    main()

"""The time from the start of the node's process to its first latent received, and its stages."""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path
from time import time_ns

from benchmarks.report import RESULTS, Goal, report
from benchmarks.rig import FUSION_NODE, rig

_STAGES = ("Python and rclpy", "torch", "the node's other imports", "load", "warm-up")
# The node's own steps, one after the other, in a process that prints when each ends.
_SCRIPT = """
from time import time_ns
def done():
    print(time_ns())
import rclpy
done()
import torch
done()
import smvae_ros.node.fusion_node, smvae_core.inference.engine
done()
engine = smvae_core.inference.engine.Engine.load(None)
done()
engine.warm_up()
done()
"""


def total() -> float:
    """Return the seconds from start to first latent, with all sensors running."""
    with rig(FUSION_NODE) as (_, node, listener):
        listener.wait_for_latent(node)
    return (min(listener.arrived_ns.values()) - node.started_ns) / 1e9


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
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    total(), stages()  # what is read from disk is in the page cache from here on
    pairs = [(total(), stages()) for _ in range(arguments.rounds)]
    seconds = statistics.median(first for first, _ in pairs)
    parts = [statistics.median(values) for values in zip(*(parts for _, parts in pairs))]
    told = ", ".join(f"{name} {part:.2f} s" for name, part in zip(_STAGES, parts))
    report(
        "Start-up",
        "make bench BENCHMARKS=startup",
        f"The node's process to the first latent received, sensors running, files in the page cache: median of "
        f"{arguments.rounds}, the longest {max(first for first, _ in pairs):.2f} s. Where it goes, measured step by "
        f"step in a process of its own: {told}; what remains is the node's creation, discovery and the first set, "
        f"{seconds - sum(parts):.2f} s.",
        [Goal("process start to first latent, s", f"{seconds:.2f}", "≤ 8", seconds <= 8)],
        arguments.results,
    )


if __name__ == "__main__":
    main()

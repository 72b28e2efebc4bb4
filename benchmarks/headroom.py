"""The processor time of the node for each set, and whether it keeps up on one core and at twice the rates.

With `--against FOLDER`, another build's install folder, both builds run in turn and are compared, replay included.
"""

import argparse
import json
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import NamedTuple

from benchmarks.node_latency import Run, run, summary
from benchmarks.report import RESULTS, Goal, report
from benchmarks.rig import FUSION_NODE, of_other_build

_RECORDING = Path(__file__).resolve().parents[1] / "recordings" / "peg_insertion"
_TRANSPORT = "fastdds.xml"
_ONE_CORE = ("taskset", "-c", "0")


class Replay(NamedTuple):
    """The seconds of a replay: of its results, and of the whole command, with its start, the model and the report."""

    results: float
    command: float


def replayed(command: Sequence[str], *options: str) -> Replay:
    """Replay the shipped recording."""
    with TemporaryDirectory() as out:
        began = perf_counter()
        subprocess.run([*command, "replay", str(_RECORDING), "--out", out, *options], check=True, capture_output=True)
        took = perf_counter() - began
        return Replay(json.loads((Path(out) / "timing.json").read_text())["wall_seconds"], took)


def _told(one: Run) -> str:
    return f"{one.lost} of {one.images} lost, p50 {one.p50:.0f} ms, p99 {one.p99:.0f} ms, {one.set_ms:.1f} ms a set"


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--against", type=Path, help="install folder of another build")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    nodes: dict[str, Sequence[str]] = {"ours": FUSION_NODE}
    commands: dict[str, Sequence[str]] = {"ours": ("smvae",)}
    if arguments.against:
        nodes["other"] = of_other_build(arguments.against, "fusion_node")
        commands["other"] = of_other_build(arguments.against, "smvae")
    usual: dict[str, list[Run]] = {name: [] for name in nodes}
    replays: dict[str, list[Replay]] = {name: [] for name in nodes}
    pinned, twice, every = [], [], []
    for _ in range(arguments.rounds):
        for name, node in nodes.items():
            usual[name].append(run(node, arguments.seconds, _TRANSPORT))
            replays[name].append(replayed(commands[name]))
        every.append(replayed(commands["ours"], "--subset-rate", "0"))
        pinned.append(run((*_ONE_CORE, *FUSION_NODE), arguments.seconds, _TRANSPORT))
        twice.append(run(FUSION_NODE, arguments.seconds, _TRANSPORT, rates=2.0))
    ours, one_core, fast = summary(usual["ours"]), summary(pinned), summary(twice)
    lines = [Goal("processor time a set, ms", f"{ours.set_ms:.1f}", "(for comparison)", True)]
    how = ""
    if "other" in usual:
        other = summary(usual["other"])
        ratio = statistics.median(a.set_ms / b.set_ms for a, b in zip(usual["ours"], usual["other"]))
        lines.append(Goal(f"against the other build ({other.set_ms:.1f} ms)", f"{ratio:.2f}×", "≤ 0.4×", ratio <= 0.4))
        others = replays["other"]
        faster, as_much = (
            statistics.median(b.results / a.results for a, b in zip(own, others)) for own in (replays["ours"], every)
        )
        whole = statistics.median(b.command / a.command for a, b in zip(replays["ours"], others))
        lines += [
            Goal("replay, how many times faster", f"{faster:.2f}×", "≥ 1.3×", faster >= 1.3),
            Goal("with images of every set from every subset, as there", f"{as_much:.2f}×", "(for comparison)", True),
            Goal("the whole command, from its start to the report", f"{whole:.2f}×", "(for comparison)", True),
        ]
        how = f" The other build: {_told(other)}."
    lines += [
        Goal(f"on one core, sets lost of {one_core.images}", str(one_core.lost), "0", not one_core.lost),
        Goal("on one core, p99, ms", f"{one_core.p99:.0f}", "≤ 60", one_core.p99 <= 60),
        Goal(f"at twice the rates, sets lost of {fast.images}", str(fast.lost), "0", not fast.lost),
    ]
    report(
        "Headroom",
        "python -m benchmarks.headroom --against FOLDER",
        f"The rig of 'Node latency'; {arguments.rounds} rounds of {arguments.seconds:g} s in turn, medians. Ours: "
        f"{_told(ours)}.{how} On one core (`taskset`): {_told(one_core)}. At twice all rates: "
        f"{_told(fast)}.",
        lines,
        arguments.results,
    )


if __name__ == "__main__":
    main()

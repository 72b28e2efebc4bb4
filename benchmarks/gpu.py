"""Everything that only a GPU can tell, in about nine minutes: correctness first, then speed. Needs no network.

make bench-gpu                                       on the first GPU; writes a section of benchmarks/RESULTS.md
python -m benchmarks.gpu --device cuda:1             on another one
python -m benchmarks.gpu --device cpu --quick        the same parts, tiny, on a processor

Each part runs in a process of its own, so that one that fails, or breaks the GPU, leaves the others alone.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.report import RESULTS, machine, write_section

ROOT = Path(__file__).parents[1]
PARTS = {
    "device": ("gpu_inference", 60),
    "tests": ("gpu_inference", 120),
    "agreement": ("gpu_inference", 120),
    "memory": ("gpu_inference", 90),
    "failures": ("gpu_inference", 60),
    "waiting": ("gpu_training", 90),
    "engine": ("gpu_inference", 150),
    "training": ("gpu_training", 200),
    "resume": ("gpu_training", 150),
}
"""Name of each part to the module that has a function of that name, and to the seconds after which it is ended.

The function takes the name of a device and whether to be quick, and returns its verdicts.
"""


class Verdict(NamedTuple):
    """What became of one doubt.

    Attributes:
        doubt: the statement that is in doubt.
        found: what was measured.
        held: whether the statement is true; None where it is a measurement without a goal, or could not be tried.
    """

    doubt: str
    found: str
    held: bool | None


def main() -> None:
    """Run the parts, print and write the section; exit with 1 if a statement does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny networks and few rounds")
    parser.add_argument(
        "--part", action="append", choices=list(PARTS), help="only this part; may be given several times"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--json", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.json is not None:
        # On a processor the parts are only tried, beside other work.
        torch.set_num_threads(1)
        module = importlib.import_module(f"benchmarks.{PARTS[arguments.part[0]][0]}")
        part: Callable[[str, bool], list[Verdict]] = getattr(module, arguments.part[0])
        arguments.json.write_text(json.dumps(part(arguments.device, arguments.quick)))
        return
    began = time.monotonic()
    found = {name: _run(name, arguments.device, arguments.quick) for name in arguments.part or PARTS}
    title = f"GPU, {arguments.device}"
    write_section(title, _section(title, found, time.monotonic() - began), arguments.results)
    sys.exit(1 if any(verdict.held is False for verdicts in found.values() for verdict in verdicts) else 0)


def environment() -> dict[str, str]:
    """Return the environment of a process that is to find these packages from any folder."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def _run(name: str, device: str, quick: bool) -> list[Verdict]:
    """Run one part in a process of its own."""
    print(f"{name} …", flush=True)
    # Tried on a busy processor, nothing is timed.
    limit_s = 3600 if quick else PARTS[name][1]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "verdicts.json"
        command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, "--device", device, "--json", str(out)]
        try:
            done = subprocess.run(
                [*command, *(["--quick"] if quick else [])],
                timeout=limit_s,
                capture_output=True,
                text=True,
                env=environment(),
            )
        except subprocess.TimeoutExpired:
            return [Verdict(f"{name}: ends in time", f"ended after {limit_s} s", False)]
        if done.returncode or not out.exists():
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            missing = "ModuleNotFoundError" in last
            told = f"not tried: {last}" if missing else f"exit code {done.returncode}: {last}"
            return [Verdict(f"{name}: runs to its end", told, None if missing else False)]
        verdicts = [Verdict(*row) for row in json.loads(out.read_text())]
    for verdict in verdicts:
        print(f"  {_mark(verdict)}: {verdict.doubt}: {verdict.found}", flush=True)
    return verdicts


def _section(title: str, found: dict[str, list[Verdict]], seconds: float) -> str:
    rows = [
        f"| {part} | {verdict.doubt} | {verdict.found.replace('|', '/')} | {_mark(verdict)} |"
        for part, verdicts in found.items()
        for verdict in verdicts
    ]
    every = [verdict for verdicts in found.values() for verdict in verdicts]
    failed = [verdict.doubt for verdict in every if verdict.held is False]
    end = f"**Does not hold:** {'; '.join(failed)}." if failed else "Every statement that was tried holds."
    lines = [
        f"## {title}",
        "",
        f"`python -m benchmarks.gpu`, {time.strftime('%Y-%m-%d')}, {machine()}, {seconds / 60:.1f} minutes",
        "",
        "| part | statement | found | verdict |",
        "|---|---|---|---|",
        *rows,
        "",
        end,
        "",
    ]
    return "\n".join(lines)


def _mark(verdict: Verdict) -> str:
    return {True: "holds", False: "**does not hold**", None: "–"}[verdict.held]


if __name__ == "__main__":
    main()

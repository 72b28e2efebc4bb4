"""Run benchmarks, each as a process of its own; each writes its section of RESULTS.md. From a built package:

make bench                                      all but the soaks, in less than 40 minutes
make bench BENCHMARKS="synchronizer startup"    some
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import date

from benchmarks.report import RESULTS, write_section
from smvae_core.interrupts import interruptible, uninterrupted

BENCHMARKS = {
    "loader": 100.0,
    "caching": 170.0,
    "training": 150.0,
    "systems": 150.0,
    "multivae": 150.0,
    "likelihood": 270.0,
    "engine": 120.0,
    "synchronizer": 60.0,
    "startup": 80.0,
    "node_latency": 270.0,
    "headroom": 240.0,
    "replay": 170.0,
    "report_page": 60.0,
    "finetune": 240.0,
    "cluster": 150.0,
}
"""The benchmarks that run by default, with the longest time of each, seconds; together less than 40 minutes."""
SOAKS = {"soak": 2400.0, "fault_soak": 2400.0}
"""Those that run only when they are named: half an hour each."""
_END_S = 15.0
"""Seconds in which a benchmark and its processes must end after SIGINT; then they are killed."""


TITLE = "The last run"


def main() -> None:
    """Run the benchmarks that the command line names, or all but the soaks.

    One that fails leaves the others alone, and its own section as it was; the section of this run says so. The exit
    code is 1 if one failed or was ended, and 130 after Ctrl-C.
    """
    limits = BENCHMARKS | SOAKS
    names = sys.argv[1:] or list(BENCHMARKS)
    if unknown := sorted(set(names) - set(limits)):
        print(f"error: expected benchmarks among {', '.join(limits)}, found {', '.join(unknown)}", file=sys.stderr)
        sys.exit(2)
    outcomes: dict[str, tuple[float, int]] = {}
    try:
        for name in names:
            began = time.monotonic()
            code = run([sys.executable, "-m", f"benchmarks.{name}"], limits[name])
            outcomes[name] = time.monotonic() - began, code
            # After each, so that a run which is broken off says how far it came.
            write_section(TITLE, _section(names, outcomes, limits), RESULTS)
    except KeyboardInterrupt:
        sys.exit(130)
    if failed := [name for name, (_, code) in outcomes.items() if code]:
        print(f"error: {', '.join(failed)} failed", file=sys.stderr)
        sys.exit(1)


def _section(names: Sequence[str], outcomes: dict[str, tuple[float, int]], limits: dict[str, float]) -> str:
    """Return the section that says which benchmarks a run reached, and which of them failed."""
    seconds = sum(one for one, _ in outcomes.values())
    rows = []
    for name in names:
        spent, code = outcomes.get(name, (0.0, 0))
        outcome = "done" if not code else f"**failed** (exit code {code}): what stands under its titles is older"
        rows.append(
            f"| {name} | {spent:.0f} | {limits[name]:.0f} | {outcome} |"
            if name in outcomes
            else f"| {name} | – | {limits[name]:.0f} | not reached |"
        )
    every = ' BENCHMARKS="' + " ".join(names) + '"' if list(names) != list(BENCHMARKS) else ""
    return "\n".join(
        [
            f"## {TITLE}",
            "",
            f"`make bench{every}`, {date.today()}: {len(outcomes)} of {len(names)} benchmarks in {seconds / 60:.0f} "
            "minutes. One that fails, or is ended at its limit, leaves all sections as they were.",
            "",
            "| benchmark | seconds | limit, seconds | outcome |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def run(command: Sequence[str], limit_s: float, end_s: float = _END_S) -> int:
    """Run a command and return its exit code; none of the processes that it started is left when this returns.

    Args:
        command: program and arguments.
        limit_s: time after which it is ended, seconds.
        end_s: time in which it may end after SIGINT before it is killed, seconds.
    """
    # A session of its own, so that the processes which the command starts can be ended with it.
    with uninterrupted():
        process = subprocess.Popen(command, start_new_session=True)
        try:
            with interruptible():
                return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            print(f"error: ended after {limit_s:g} s: {' '.join(command)}", file=sys.stderr)
            return 1
        finally:
            if process.poll() is None:
                _signal_all(process.pid, signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(end_s)
            _signal_all(process.pid, signal.SIGKILL)
            process.wait()


def _signal_all(session: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(session, number)


if __name__ == "__main__":
    main()

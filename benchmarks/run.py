"""Run benchmarks, each as a process of its own; each writes its section of RESULTS.md. From a built package:

make bench                                      all of them
make bench BENCHMARKS="synchronizer startup"    some
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

BENCHMARKS = (
    "loader",
    "caching",
    "training",
    "systems",
    "likelihood",
    "engine",
    "synchronizer",
    "startup",
    "node_latency",
    "headroom",
    "replay",
    "report_page",
    "finetune",
    "soak",
    "fault_soak",
)
_LIMIT_S = 3600.0
"""Longest time of one benchmark; the longest, the soaks, take half an hour each."""
_END_S = 15.0
"""Seconds in which a benchmark and its processes must end after SIGINT; then they are killed."""


def main() -> None:
    """Run the benchmarks that the command line names, or all; exit code 1 if one failed, 130 after Ctrl-C."""
    names = sys.argv[1:] or BENCHMARKS
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        print(f"error: expected benchmarks among {', '.join(BENCHMARKS)}, found {', '.join(unknown)}", file=sys.stderr)
        sys.exit(2)
    try:
        failed = [name for name in names if run([sys.executable, "-m", f"benchmarks.{name}"], _LIMIT_S)]
    except KeyboardInterrupt:
        sys.exit(130)
    if failed:
        print(f"error: {', '.join(failed)} failed", file=sys.stderr)
        sys.exit(1)


def run(command: Sequence[str], limit_s: float, end_s: float = _END_S) -> int:
    """Run a command and return its exit code; none of the processes that it started is left when this returns.

    Args:
        command: program and arguments.
        limit_s: time after which it is ended, seconds.
        end_s: time in which it may end after SIGINT before it is killed, seconds.
    """
    # A session of its own, so that the processes which the command starts can be ended with it.
    process = subprocess.Popen(command, start_new_session=True)
    try:
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

"""Run benchmarks, each as a process of its own; each writes its section of RESULTS.md. From a built package:

    make bench                                      all of them
    make bench BENCHMARKS="synchronizer startup"    some
"""

import subprocess
import sys

BENCHMARKS = (
    "loader",
    "caching",
    "training",
    "engine",
    "synchronizer",
    "startup",
    "node_latency",
    "replay",
    "report_page",
    "soak",
)


def main() -> None:
    """Run what the command line names, or all; exit code 1 if one failed."""
    names = sys.argv[1:] or BENCHMARKS
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        print(f"error: expected benchmarks among {', '.join(BENCHMARKS)}, found {', '.join(unknown)}", file=sys.stderr)
        sys.exit(2)
    failed = [name for name in names if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode]
    if failed:
        print(f"error: {', '.join(failed)} failed", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

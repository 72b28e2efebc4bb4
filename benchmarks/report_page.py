"""The report of a one-hour bag: how long it takes to write, and how large it is. From a built package:

    python -m benchmarks.report_page [--hours 1] [--results FILE]

The shipped recording is replayed once; its table is then repeated to an hour's length at 30 sets a second.
"""

import argparse
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.report import RESULTS, Goal, report
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.run import replay
from smvae_ros.replay.summary import ReplaySummary
from smvae_ros.report.write import write_report

RECORDING = Path(__file__).parents[1] / "recordings" / "peg_insertion"
RATE = 30


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        replay(RECORDING, folder, ReplayJob(device="cpu"))
        # Also loads what is loaded once a process.
        short = write_report(folder).stat().st_size
        sets = _lengthen(folder, round(arguments.hours * 3600 * RATE))
        seconds, worked = [], []
        for _ in range(arguments.rounds):
            began, busy = perf_counter(), process_time()
            page = write_report(folder)
            seconds.append(perf_counter() - began)
            worked.append(process_time() - busy)
        size = page.stat().st_size
    took = float(np.median(seconds))
    report(
        "Report of a replay",
        "python -m benchmarks.report_page",
        f"The results of the shipped recording, repeated to {sets:,} sets ({arguments.hours:g} h at {RATE} a second). "
        f"Median of {arguments.rounds}. Beside it what the processor worked: on a busy machine the rest is waiting.",
        [
            Goal("time to write the page", f"{took:.1f} s ({np.median(worked):.1f} s of work)", "< 60 s", took < 60),
            Goal("size of the page", f"{size / 1e6:.1f} MB ({short / 1e6:.1f} MB for 40 s)", "< 20 MB", size < 20e6),
        ],
        arguments.results,
    )


def _lengthen(folder: Path, sets: int) -> int:
    """Repeat the table to so many sets, one after the other in time."""
    path = folder / "sets.parquet"
    table = pq.read_table(path)
    long = pa.concat_tables([table] * -(-sets // len(table))).slice(0, sets)
    summary = ReplaySummary.model_validate_json((folder / "summary.json").read_bytes())
    times = summary.extent.begin_ns + np.arange(1, sets + 1) * 10**9 // RATE
    for column in ("stamp_ns", "log_ns"):
        long = long.set_column(long.schema.get_field_index(column), long.schema.field(column), pa.array(times))
    pq.write_table(long, path)
    extent = summary.extent.model_copy(update={"seconds": sets / RATE})
    (folder / "summary.json").write_text(summary.model_copy(update={"extent": extent, "sets": sets}).model_dump_json())
    return sets


if __name__ == "__main__":
    main()

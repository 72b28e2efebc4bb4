"""A folder of bags replayed by two Dask workers, against two processes of this machine.

From a built package: make bench BENCHMARKS=cluster
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from benchmarks.report import RESULTS, Goal, report
from smvae_ros.replay.job import ReplayJob
from smvae_ros.report.replays import replay_many

_RECORDING = Path(__file__).parents[1] / "recordings" / "peg_insertion"
_WORKERS = 2


def _copies(folder: Path, bags: int, seconds: float) -> dict[str, Path]:
    """Write the first seconds of the recording that ships, several times."""
    named = {f"bag{number}": folder / f"bag{number}" for number in range(bags)}
    with AnyReader([_RECORDING]) as reader:
        for path in named.values():
            with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
                connections = {
                    c.id: writer.add_connection(c.topic, c.msgtype, typestore=reader.typestore)
                    for c in reader.connections
                }
                stop = reader.start_time + int(seconds * 1e9)
                for connection, log_ns, content in reader.messages(stop=stop):
                    writer.write(connections[connection.id], log_ns, content)
    return named


class _Times(NamedTuple):
    """The time of one replay of all bags: on the wall, and of the processors that its workers took."""

    wall: float
    processors: float


def _times(bags: dict[str, Path], out: Path, processors: Callable[[], float], cluster: str | None = None) -> _Times:
    began, before = time.perf_counter(), processors()
    summary = replay_many(bags, out, ReplayJob(device="cpu"), lambda: None, _WORKERS, cluster)
    if bad := [result.error for result in summary.bags if result.error is not None]:
        sys.exit(f"error: {'; '.join(bad)}")
    return _Times(time.perf_counter() - began, processors() - before)


def _of_ended_processes() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _of_running_processes() -> float:
    """Return the time of the workers, which go on after a replay."""
    import psutil

    times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return float(sum(used.user + used.system for used in times))


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bags", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each bag")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    try:
        from distributed import LocalCluster
    except ImportError:
        sys.exit("error: Dask is not installed; pip install 'smvae_ros[cluster]'")
    local, dask = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bags = _copies(folder, arguments.bags, arguments.seconds)
        for number in range(arguments.rounds):
            local.append(_times(bags, folder / f"local{number}", _of_ended_processes))
            # New workers, so that both sides load torch and the checkpoint in the time that is measured.
            with LocalCluster(
                n_workers=_WORKERS, threads_per_worker=1, dashboard_address=None, local_directory=temporary
            ) as cluster:
                dask.append(_times(bags, folder / f"dask{number}", _of_running_processes, cluster.scheduler_address))
    ratio = min(dask).wall / min(local).wall
    processors = min(one.processors for one in dask) / min(one.processors for one in local)
    rounds = ", ".join(f"{there.wall:.0f} s against {here.wall:.0f} s" for there, here in zip(dask, local))
    used = ", ".join(f"{there.processors:.0f} s against {here.processors:.0f} s" for there, here in zip(dask, local))
    report(
        "Cluster",
        f"python -m benchmarks.cluster --bags {arguments.bags} --seconds {arguments.seconds:g} "
        f"--rounds {arguments.rounds}",
        f"{arguments.bags} bags of {arguments.seconds:g} s (the recording that ships), replayed with the shipped "
        f"checkpoint by {_WORKERS} processes of this machine, and by a Dask scheduler with {_WORKERS} workers, in "
        f"{arguments.rounds} alternating rounds. Scheduler and workers are up before the time begins; torch and the "
        f"checkpoint are loaded in it, on both sides. The ratio is that of the best round of each: {rounds}. Time of "
        f"the processors, which other programs disturb less: {used}.",
        [
            Goal("two Dask workers, against two local processes", f"{ratio:.2f}", "≤ 1.15", ratio <= 1.15),
            Goal("time of the processors", f"{processors:.2f}", "≤ 1.15", processors <= 1.15),
        ],
        arguments.results,
    )


if __name__ == "__main__":
    main()

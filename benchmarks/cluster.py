"""A folder of bags replayed by two Dask workers, against two processes of this machine.

From a built package: make bench BENCHMARKS=cluster
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

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


def _seconds(bags: dict[str, Path], out: Path, cluster: str | None = None) -> float:
    began = time.perf_counter()
    summary = replay_many(bags, out, ReplayJob(device="cpu"), lambda: None, _WORKERS, cluster)
    assert all(result.folder for result in summary.bags), summary.bags
    return time.perf_counter() - began


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
            local.append(_seconds(bags, folder / f"local{number}"))
            # New workers, so that both sides load torch and the checkpoint in the time that is measured.
            with LocalCluster(
                n_workers=_WORKERS, threads_per_worker=1, dashboard_address=None, local_directory=temporary
            ) as cluster:
                dask.append(_seconds(bags, folder / f"dask{number}", cluster.scheduler_address))
    ratio = min(dask) / min(local)
    rounds = ", ".join(f"{there:.0f} s against {here:.0f} s" for there, here in zip(dask, local))
    report(
        "Cluster",
        f"python -m benchmarks.cluster --bags {arguments.bags} --seconds {arguments.seconds:g} "
        f"--rounds {arguments.rounds}",
        f"{arguments.bags} bags of {arguments.seconds:g} s (the recording that ships), replayed with the shipped "
        f"checkpoint by {_WORKERS} processes of this machine, and by a Dask scheduler with {_WORKERS} workers, in "
        f"{arguments.rounds} alternating rounds. Scheduler and workers are up before the time begins; torch and the "
        f"checkpoint are loaded in it, on both sides. The ratio is that of the best round of each: {rounds}.",
        [Goal("two Dask workers, against two local processes", f"{ratio:.2f}", "≤ 1.15", ratio <= 1.15)],
        arguments.results,
    )


if __name__ == "__main__":
    main()

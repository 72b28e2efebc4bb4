"""Bags on a Dask cluster: a real scheduler with two real workers, of which one is killed midway."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from ...programs import Program
from ..command import command, smvae

distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")

START = """
import os, signal, sys
from distributed import LocalCluster
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with LocalCluster(
        n_workers=int(sys.argv[1]), threads_per_worker=2, dashboard_address=None, local_directory=sys.argv[2],
        memory_limit=0,
    ) as cluster:
        print(cluster.scheduler_address, *(worker.pid for worker in cluster.workers.values()), flush=True)
        sys.stdin.read()
"""
"""A program that prints the scheduler's address and ends when its input does."""


class Cluster(NamedTuple):
    """The address of a scheduler, and the process ids of its workers."""

    address: str
    workers: list[int]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of two workers, for all tests: it takes longer to start than they take."""
    folder = tmp_path_factory.mktemp("cluster")
    program = folder / "start.py"
    program.write_text(START)
    with subprocess.Popen(
        [sys.executable, str(program), "2", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        address, *pids = process.stdout.readline().split()
        yield Cluster(address, [int(pid) for pid in pids])
        process.communicate("")


@pytest.fixture
def bags(bag: Path, tmp_path: Path) -> Path:
    """A folder with two good bags and a bad one."""
    for number in range(2):
        shutil.copytree(bag, tmp_path / "bags" / f"bag{number}")
    (tmp_path / "bags" / "broken.mcap").write_bytes(b"nothing")
    return tmp_path / "bags"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; those that tell of times apart, which differ between two runs."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if path.name not in ("timing.json", "report.html")
    }


def test_a_killed_worker_costs_nothing_and_the_results_are_those_of_this_machine(
    cluster: Cluster, bags: Path, checkpoint: Path, tmp_path: Path
) -> None:
    options = ("replay", bags, "--checkpoint", checkpoint, "--device", "cpu")
    here = smvae(*options, "--out", tmp_path / "here", "--workers", 1)
    running = Program(
        command(*options, "--out", tmp_path / "there", "--cluster", cluster.address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not any((tmp_path / "there").glob("*/.replay.*")):
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended with {running.wait(0.05)} before a bag was begun")
    os.kill(cluster.workers[0], signal.SIGKILL)
    told, warned = running.communicate()
    assert (running.returncode, here.returncode) == (3, 3), warned
    assert warned.startswith("error: 1 of 3 bags could not be replayed:") and "broken.mcap" in warned
    assert told.replace("there", "here") == here.stdout
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert not list((tmp_path / "there").rglob(".*")), "nothing half-written is left"


def test_logs_on_a_cluster_are_those_of_this_machine(cluster: Cluster, bags: Path, tmp_path: Path) -> None:
    here = smvae("log", bags, "--out", tmp_path / "here", "--workers", 2)
    there = smvae("log", bags, "--out", tmp_path / "there", "--cluster", cluster.address)
    assert (here.returncode, there.returncode) == (3, 3), there.stderr
    assert there.stdout.replace("there", "here") == here.stdout and "broken.mcap" in there.stderr
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    account = json.loads((tmp_path / "there" / "bag0.account.json").read_text())
    assert account["rows"] == 21
    again = smvae("log", bags, "--out", tmp_path / "there", "--cluster", cluster.address)
    assert again.returncode == 2 and "expected no logs of a bag named bag0" in again.stderr


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://", "127.0.0.1:notaport"])
def test_no_scheduler_at_the_address_is_one_sentence(
    address: str, bags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "1s")
    done = smvae("log", bags, "--out", tmp_path / "out", "--cluster", address)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"expected the address of a Dask scheduler, as tcp://head:8786, found {address}" in done.stderr
    assert not (tmp_path / "out").exists()

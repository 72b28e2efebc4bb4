"""Logs of several bags at once: see `smvae_ros.replay.to_logs` for one bag."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from smvae_core.files import none_left_empty
from smvae_core.modality import Modality
from smvae_ros.cluster import Cluster
from smvae_ros.jobs import Done, Task, run_jobs
from smvae_ros.replay.log_keys import check_keys
from smvae_ros.replay.to_logs import LogWriteError, WrittenLogs, files_of, refuse_overwriting, unfinished, write_logs
from smvae_ros.settings import FusionSettings


def write_logs_of_bags(
    bags: Mapping[str, Path],
    modalities: Sequence[Modality],
    settings: FusionSettings,
    out: Path,
    on_bag: Callable[[], None],
    workers: int = 1,
    cluster: str | None = None,
) -> list[Done[WrittenLogs]]:
    """Write the logs of each bag; return what became of each. A bag that cannot be used does not stop the others.

    Args:
        bags: by the name that their logs get.
        settings: how sets are made; topics are resolved at the root.
        on_bag: called after each bag.
        workers: number of processes.
        cluster: address of a Dask scheduler to work on instead.

    Raises:
        LogWriteError: logs of one of the names exist, or `out` cannot be made.
        ConfigurationError: the settings name a message that cannot bring its modality, or modalities share a key.
        ClusterError: the cluster cannot be reached, or it is lost.
    """
    refuse_overwriting(out, bags)
    check_keys(modalities)
    settings.bindings(modalities)
    place = None if cluster is None else Cluster(cluster, out)
    folder = out.absolute() if cluster else out
    task = Task(partial(_write, folder, tuple(modalities), settings), partial(_clear, folder))
    with none_left_empty(out):
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LogWriteError(f"{out}: cannot be written ({error.strerror})") from None
        return run_jobs(task, bags, lambda one: on_bag(), workers, place)


def _write(
    out: Path, modalities: Sequence[Modality], settings: FusionSettings, name: str, bag: Path, threads: int
) -> WrittenLogs:
    return write_logs(bag, modalities, settings, out, name=name)


def _clear(out: Path, name: str) -> None:
    """Remove all that belongs to a bag, of which there was nothing before this command."""
    for left in unfinished(out, name):
        shutil.rmtree(left, ignore_errors=True)
    for file in files_of(out, name):
        file.unlink(missing_ok=True)

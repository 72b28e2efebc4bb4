"""`smvae log`: turn bags into data to train on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from smvae_core.cli.commands import console
from smvae_core.cli.exit import partly_done
from smvae_core.files import none_left_empty
from smvae_ros.commands.options import (
    Bags,
    ClusterOption,
    OtherTopics,
    ParameterFile,
    WorkersOption,
    settings_changes,
)

if TYPE_CHECKING:  # torch takes seconds to import; --help does without
    from smvae_core.modality import Modality
    from smvae_ros.jobs import Done
    from smvae_ros.replay.to_logs import WrittenLogs
    from smvae_ros.settings import FusionSettings


class LogFormat(str, Enum):
    """The formats of the data that are written."""

    logs = "logs"
    lerobot = "lerobot"


def log(
    bags: Bags,
    out: Annotated[Path, typer.Option(help="Folder for the logs, created if need be; a data set needs a new one.")],
    config: Annotated[
        Path | None,
        typer.Option(help="The configuration to train with; its modalities are written, by default the usual four."),
    ] = None,
    topic: OtherTopics = None,
    params_file: ParameterFile = None,
    form: Annotated[
        LogFormat,
        typer.Option("--format", help="Logs (HDF5), or one LeRobot data set (v3.0) of all bags."),
    ] = LogFormat.logs,
    task: Annotated[str, typer.Option(help="What the robot does, in words; for a LeRobot data set.")] = "unknown",
    robot: Annotated[str, typer.Option(help="The robot's type; for a LeRobot data set.")] = "unknown",
    strict: Annotated[
        bool,
        typer.Option("--strict", help="End with exit code 3 after a considerable loss, instead of a warning alone."),
    ] = False,
    workers: WorkersOption = None,
    cluster: ClusterOption = None,
) -> None:
    """Turn bags of a robot into logs to train on: the sets that the node would make of them.

    A sensor that comes and goes, or a pause, ends a trajectory and begins another. The table at the end tells what
    became of every message; the same account is in each log and in NAME.account.json beside the logs. Bags that could
    not be turned into logs are listed, and the exit code is then 3. With --cluster each bag is a task of a Dask
    cluster whose machines see the same files.

    Example: smvae log monday.bag tuesday.bag --out logs --config config/two_cameras.yaml
    """
    from smvae_core.configuration import Configuration, load_configuration
    from smvae_ros.bags.naming import named_bags
    from smvae_ros.replay.to_logs import LogWriteError
    from smvae_ros.settings import default_settings

    modalities = (load_configuration(config) if config else Configuration()).model.modalities
    settings = default_settings(modalities)
    for change in settings_changes(params_file, topic or []):
        settings = settings.changed(change)
    named = named_bags(bags, between="_")
    if form is LogFormat.logs:
        done = _write(named, modalities, settings, out, workers, cluster)
        lossy = _tell(done, out, [file for one in done if one.result for file in one.result.files])
    else:
        from smvae_ros.replay.to_lerobot import unshifted, write_data_set

        if out.exists():
            raise LogWriteError(f"{out}: exists already; name another folder for the data set")
        try:
            with none_left_empty(out.parent), _beside(out) as folder:
                done = _write(named, unshifted(modalities), settings, Path(folder), workers, cluster)
                logs = [one.result for one in done if one.result is not None]
                data_set = write_data_set(logs, modalities, out, task, robot) if logs else None
                lossy = _tell(done, out, [file for file in out.rglob("*") if file.is_file()])
        except OSError as error:
            raise LogWriteError(f"{out}: cannot be written ({error.strerror or error})") from None
        if data_set is not None:
            features = ", ".join(f"{name} is {feature}" for name, feature in data_set.features.items())
            told = f"{data_set.episodes} episodes at {data_set.fps} steps a second; {features}"
            console.print(escape(told), soft_wrap=True)
            _warn(data_set.warnings)
            lossy = lossy or bool(data_set.warnings)
    partly_done([one.error for one in done if one.error is not None], len(named), "bags could not be turned into logs")
    if strict and lossy:
        raise typer.Exit(3)


@contextmanager
def _beside(out: Path) -> Iterator[str]:
    """Yield a temporary folder beside the data set."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.logs.") as folder:
        yield folder


def _write(
    named: Mapping[str, Path],
    modalities: Sequence[Modality],
    settings: FusionSettings,
    out: Path,
    workers: int | None,
    cluster: str | None,
) -> list[Done[WrittenLogs]]:
    from smvae_ros.jobs import Done
    from smvae_ros.replay.logs_of_bags import write_logs_of_bags
    from smvae_ros.replay.to_logs import write_logs

    what = "writing set" if len(named) == 1 and cluster is None else "reading bag"
    with Progress(SpinnerColumn(), TextColumn(what), MofNCompleteColumn(), console=console, transient=True) as progress:
        if len(named) == 1 and cluster is None:
            name, bag = next(iter(named.items()))
            task = progress.add_task("", total=None)
            return [Done(name, write_logs(bag, modalities, settings, out, lambda: progress.advance(task), name))]
        task = progress.add_task("", total=len(named))
        workers = min(len(named), workers or len(os.sched_getaffinity(0)))
        return write_logs_of_bags(named, modalities, settings, out, lambda: progress.advance(task), workers, cluster)


def _tell(done: Sequence[Done[WrittenLogs]], out: Path, files: Sequence[Path]) -> bool:
    """Print what was written, and warn of considerable losses; return whether there are any."""
    from smvae_ros.replay.account_table import account_table, bag_lines, drop_lines

    accounts = [one.result.account for one in done if one.result is not None]
    if not accounts:
        return False
    console.print(account_table(accounts))
    for line in (*drop_lines(accounts), *(line for account in accounts for line in bag_lines(account))):
        console.print(escape(line), soft_wrap=True)
    sets, rows = sum(account.sets for account in accounts), sum(account.rows for account in accounts)
    trajectories = sum(len(account.trajectories) for account in accounts)
    size = sum(file.stat().st_size for file in files)
    console.print(
        f"{sets} sets, {rows} rows, {trajectories} {'trajectory' if trajectories == 1 else 'trajectories'}, "
        f"{size / 1e6:.1f} MB, in {escape(str(out))}",
        soft_wrap=True,
    )
    losses = [f"{account.bag}: {sentence}" for account in accounts for sentence in account.losses()]
    _warn(losses)
    return bool(losses)


def _warn(sentences: Sequence[str]) -> None:
    warnings = Console(stderr=True, soft_wrap=True)
    for sentence in sentences:
        warnings.print(f"[bold yellow]warning:[/] {escape(sentence)}")

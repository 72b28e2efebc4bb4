"""The `smvae` command with the commands of the robot side: bag, check, log and replay."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from smvae_core.cli.commands import app, console
from smvae_core.cli.exit import partly_done, run
from smvae_core.cli.options import DeviceOption
from smvae_core.cli.tables import error_table
from smvae_core.errors import ConfigurationError
from smvae_core.simulation.scene import SceneLook
from smvae_ros import fault_options

if TYPE_CHECKING:  # torch takes seconds to import; --help does without
    from smvae_ros.replay.job import ReplayJob
    from smvae_ros.replay.summary import Kind
    from smvae_ros.replay.to_logs import WrittenLogs

Bags = Annotated[
    list[Path],
    typer.Argument(
        metavar="BAG...", help="A rosbag2 (its folder, or one .mcap or .db3 file), several, or folders of them."
    ),
]
OtherTopics = Annotated[
    list[str] | None,
    typer.Option(help="Another topic for a modality, as MODALITY:=TOPIC; may be given several times."),
]
ParameterFile = Annotated[
    Path | None, typer.Option(help="The node's parameter file (as config/fusion.yaml), for how sets are made.")
]


def main() -> None:
    """Run the `smvae` command."""
    run(app)


@app.command()
def bag(
    log: Annotated[Path, typer.Argument(help="A log file (.h5), with its other parts beside it, or a folder of logs.")],
    out: Annotated[Path, typer.Option(help="Folder of the bag to write; it must not exist yet.")],
    trajectory: Annotated[str | None, typer.Option(help="Which trajectory of the folder.")] = None,
    fov: Annotated[
        float,
        typer.Option(min=1.0, max=170.0, help="Vertical opening of the camera in degrees; by default the simulator's."),
    ] = SceneLook.camera_fov,
) -> None:
    """Turn a Vision&Touch trajectory into a rosbag2 (MCAP, zstd) that `ros2 bag play` accepts.

    Example: smvae bag logs/20190408_183047_triangle_0_journal_0_1_1000.h5 --out peg_insertion
    """
    from smvae_ros.bags.from_logs import pick_trajectory, write_bag

    chosen = pick_trajectory(log, trajectory)
    columns = (SpinnerColumn(), TextColumn("writing step"), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        written = write_bag(chosen, out, fov, lambda: progress.advance(task))
    size = sum(file.stat().st_size for file in out.iterdir())
    console.print(f"{escape(chosen.name)}: {written} messages, {size / 1e6:.1f} MB, in {escape(str(out))}")


@app.command()
def log(
    bags: Bags,
    out: Annotated[Path, typer.Option(help="Folder for the logs; created if it does not exist.")],
    config: Annotated[
        Path | None,
        typer.Option(help="The configuration to train with; its modalities are written, by default the usual four."),
    ] = None,
    topic: OtherTopics = None,
    params_file: ParameterFile = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="End with exit code 3 after a considerable loss, instead of a warning alone."),
    ] = False,
) -> None:
    """Turn bags of a robot into logs to train on: the sets that the node would make of them.

    A sensor that comes and goes, or a pause, ends a trajectory and begins another. The table at the end tells what
    became of every message; the same account is in each log and in NAME.account.json beside the logs. Bags that could
    not be turned into logs are listed, and the exit code is then 3.

    Example: smvae log monday.bag tuesday.bag --out logs --config config/two_cameras.yaml
    """
    from smvae_core.configuration import Configuration, load_configuration
    from smvae_ros.bags.naming import named_bags
    from smvae_ros.bags.reading import BagError
    from smvae_ros.conversions.errors import ConversionError
    from smvae_ros.replay.to_logs import refuse_overwriting, write_logs
    from smvae_ros.settings import default_settings

    modalities = (load_configuration(config) if config else Configuration()).model.modalities
    settings = default_settings(modalities)
    for change in _changes(params_file, topic or []):
        settings = settings.changed(change)
    named = named_bags(bags, between="_")
    refuse_overwriting(out, named)
    written: list[WrittenLogs] = []
    bad = []
    columns = (SpinnerColumn(), TextColumn("writing set"), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        for name, bag in named.items():
            try:
                written.append(write_logs(bag, modalities, settings, out, lambda: progress.advance(task), name))
            except (BagError, ConversionError) as error:
                if len(named) == 1:
                    raise
                bad.append(str(error))
    lossy = _tell_logs(written, out)
    partly_done(bad, len(named), "bags could not be turned into logs")
    if strict and lossy:
        raise typer.Exit(3)


def _tell_logs(written: Sequence[WrittenLogs], out: Path) -> bool:
    """Print what was written, and warn of considerable losses; return whether there are any."""
    from smvae_ros.replay.account_table import account_table, bag_lines, drop_lines

    accounts = [logs.account for logs in written]
    if not accounts:
        return False
    console.print(account_table(accounts))
    for line in (*drop_lines(accounts), *(line for account in accounts for line in bag_lines(account))):
        console.print(escape(line), soft_wrap=True)
    sets, rows = sum(account.sets for account in accounts), sum(account.rows for account in accounts)
    trajectories = sum(len(account.trajectories) for account in accounts)
    size = sum(file.stat().st_size for logs in written for file in logs.files)
    console.print(
        f"{sets} sets, {rows} rows, {trajectories} {'trajectory' if trajectories == 1 else 'trajectories'}, "
        f"{size / 1e6:.1f} MB, in {escape(str(out))}",
        soft_wrap=True,
    )
    losses = [f"{account.bag}: {sentence}" for account in accounts for sentence in account.losses()]
    warnings = Console(stderr=True, soft_wrap=True)
    for loss in losses:
        warnings.print(f"[bold yellow]warning:[/] {escape(loss)}")
    return bool(losses)


@app.command()
def check(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[BAG | DATA]", help="A rosbag2, or a folder of data to train on; by default the running robot."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="The checkpoint whose modalities are wanted; by default the shipped one.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The configuration whose modalities are wanted, instead of a checkpoint.")
    ] = None,
    topic: OtherTopics = None,
    params_file: ParameterFile = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="How long to listen to the robot (by default 5), or how much of a bag to read (60)."
        ),
    ] = None,
    write: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Draft NAME.yaml, a configuration to train with, and NAME_fusion.yaml for the node."
        ),
    ] = None,
) -> None:
    """Check before the launch: would the node fuse what the robot, or a bag, sends?

    The table tells for each modality what was found, what the model wants, and what to do. The exit code is 0 only if
    the node would fuse all modalities, 1 otherwise. A data set is described; --write drafts a configuration for it.

    Example: smvae check monday.bag --write my_robot
    """
    from smvae_ros.bags.naming import is_recorded
    from smvae_ros.check.data import check_data
    from smvae_ros.check.run import check as check_messages
    from smvae_ros.check.run import draft, open_source, wanted_modalities
    from smvae_ros.check.table import check_table, conclusion, unused_lines

    if source is not None and not is_recorded(source):
        check_data(source, write, console)
        return
    if write is not None and (checkpoint or config):
        raise ConfigurationError("--write drafts a configuration; leave out --checkpoint and --config")
    changes = _changes(params_file, topic or [])
    with open_source(source, seconds) as opened:
        drafted = draft(opened) if write is not None else None
        if drafted is not None:
            changes = (drafted.parameters, *changes)
        modalities = drafted.modalities if drafted is not None else wanted_modalities(checkpoint, config)
        verdict = check_messages(opened, modalities, changes)
    console.print(check_table(verdict))
    for line in unused_lines(verdict):
        console.print(escape(line), soft_wrap=True)
    if write is not None and drafted is not None:
        console.print(f"drafted {escape(' and '.join(map(str, drafted.write(write))))}", soft_wrap=True)
    console.print(escape(conclusion(verdict)), soft_wrap=True)
    if not verdict.fuses:
        raise typer.Exit(1)


@app.command()
def replay(
    bags: Bags,
    out: Annotated[Path, typer.Option(help="Folder for the results; with several bags, each has a folder in it.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A checkpoint, or a run, whose best epoch is taken; by default the shipped checkpoint."),
    ] = None,
    topic: OtherTopics = None,
    params_file: ParameterFile = None,
    drop: fault_options.Drop = None,
    delay: fault_options.Delay = None,
    freeze: fault_options.Freeze = None,
    swap: fault_options.Swap = None,
    zero: fault_options.Zero = None,
    scale: fault_options.Scale = None,
    bias: fault_options.Bias = None,
    noise: fault_options.Noise = None,
    dim: fault_options.Dim = None,
    cover: fault_options.Cover = None,
    shift: fault_options.Shift = None,
    write_bag: Annotated[
        bool, typer.Option("--write-bag", help="Also write latents and predictions as a rosbag2 (MCAP).")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes for several bags; by default one for each core.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Evaluate on bags, offline: report.html tells how good the fusion was, which modality was out when, and more.

    A bag goes through the node's own synchroniser and model; the same bag always gives the same bytes. Bags that could
    not be replayed are listed at the end, and the exit code is then 3; index.html leads to the reports of the others.

    Example: smvae replay recordings/peg_insertion --out results --drop rgb@10:20
    """
    from smvae_core.training.run import best_of
    from smvae_ros.bags.naming import named_bags
    from smvae_ros.replay.job import ReplayJob

    options: dict[Kind, list[str] | None] = {
        "drop": drop,
        "delay": delay,
        "swap": swap,
        "shift": shift,
        "cover": cover,
        "dim": dim,
        "scale": scale,
        "bias": bias,
        "noise": noise,
        "zero": zero,
        "freeze": freeze,
    }
    faults = {kind: tuple(words) for kind, words in options.items() if words}
    job = ReplayJob(
        checkpoint=best_of(checkpoint) if checkpoint else None,
        changes=_changes(params_file, topic or []),
        device=device,
        faults=faults,
        write_bag=write_bag,
    )
    named = named_bags(bags)
    if len(named) == 1:
        _replay_one(next(iter(named.values())), out, job)
    else:
        _replay_several(named, out, job, workers)


def _replay_one(bag: Path, out: Path, job: ReplayJob) -> None:
    from smvae_ros.jobs import replay_with_report
    from smvae_ros.report.write import NAME

    columns = (SpinnerColumn(), TextColumn("replaying"), BarColumn(), TextColumn("{task.completed:.0f} s"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        summary = replay_with_report(
            bag,
            out,
            job,
            len(os.sched_getaffinity(0)),
            lambda seconds, of: progress.update(task, completed=seconds, total=of),
        )
    console.print(error_table(summary.evaluation.subsets, list(summary.streams)))
    console.print(
        ", ".join(
            f"{number} set{'s' * (number > 1)} of {subset or 'nothing'}"
            for subset, number in summary.sets_by_subset.items()
        )
    )
    for sentence in (*summary.extent.damage, *summary.warnings):
        console.print(f"[yellow]note:[/] {escape(sentence)}", soft_wrap=True)
    console.print(f"the report is {escape(str(out / NAME))}; its results are beside it", soft_wrap=True)


def _replay_several(named: dict[str, Path], out: Path, job: ReplayJob, workers: int | None) -> None:
    from smvae_ros.jobs import replay_many

    workers = min(len(named), workers or len(os.sched_getaffinity(0)))
    columns = (SpinnerColumn(), TextColumn("replaying bag"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=len(named))
        summary = replay_many(named, out, job, workers, lambda result: progress.advance(task))
    if summary.evaluation is not None:
        console.print(error_table(summary.evaluation.subsets, list(summary.evaluation.subsets[0].subset)))
    for result in summary.bags:
        if result.error is None:
            cut = f"; {'; '.join(result.damage)}" if result.damage else ""
            console.print(escape(f"{result.bag}: {result.sets} sets{cut}"), soft_wrap=True)
    console.print(
        f"index.html and summary.json of all, and a folder for each bag, in {escape(str(out))}", soft_wrap=True
    )
    bad = [result.error for result in summary.bags if result.error is not None]
    partly_done(bad, len(named), "bags could not be replayed")


def _changes(params_file: Path | None, topics: Iterable[str]) -> tuple[dict[str, Any], ...]:
    """Return the changes to the node's settings by a parameter file and by other topics."""
    from smvae_ros.settings import read_parameters

    of_file = [read_parameters(params_file)] if params_file else []
    return (*of_file, {"streams": _topics(topics)})


def _topics(options: Iterable[str]) -> dict[str, dict[str, str]]:
    topics = {}
    for option in options:
        modality, separator, topic = option.partition(":=")
        if not (modality and separator and topic):
            raise ConfigurationError(f"--topic: expected MODALITY:=TOPIC, found '{option}'")
        topics[modality] = {"topic": topic}
    return topics

"""The `smvae` command with the commands of the robot side: bag, check, log and replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from smvae_core.cli.commands import app, console
from smvae_core.cli.exit import run
from smvae_core.errors import ConfigurationError
from smvae_core.simulation.scene import SceneLook
from smvae_ros.commands.log import log as log_command
from smvae_ros.commands.options import OtherTopics, ParameterFile, settings_changes
from smvae_ros.commands.replay import replay


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
    changes = settings_changes(params_file, topic or [])
    with open_source(source, seconds) as opened:
        drafted = draft(opened) if write is not None else None
        if drafted is not None:
            changes = (drafted.parameters, *changes)
        modalities = drafted.modalities if drafted is not None else wanted_modalities(checkpoint, config)
        verdict = check_messages(opened, modalities, changes)
    console.print(check_table(verdict))
    for note in opened.notes:
        console.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True)
    for line in unused_lines(verdict):
        console.print(escape(line), soft_wrap=True)
    if write is not None and drafted is not None:
        console.print(f"drafted {escape(' and '.join(map(str, drafted.write(write))))}", soft_wrap=True)
    console.print(escape(conclusion(verdict)), soft_wrap=True)
    if not verdict.fuses:
        raise typer.Exit(1)


app.command("log")(log_command)
app.command()(replay)

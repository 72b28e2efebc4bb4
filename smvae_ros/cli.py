"""The `smvae` command with the robot side's commands: bag and replay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from smvae_core.cli import DeviceName, app, console, error_table, run
from smvae_core.errors import ConfigurationError
from smvae_core.modality import Modality
from smvae_core.peg_scene import SceneLook


def main() -> None:
    """Entry point of the `smvae` command."""
    run(app)


@app.command()
def bag(
    log: Annotated[Path, typer.Argument(help="A log file (.h5), whose other parts beside it are taken, or a folder.")],
    out: Annotated[Path, typer.Option(help="Folder of the bag to write; must not be there yet.")],
    trajectory: Annotated[str | None, typer.Option(help="Which trajectory of the folder.")] = None,
    fov: Annotated[
        float,
        typer.Option(min=1.0, max=170.0, help="Vertical opening of the camera in degrees; by default the simulator's."),
    ] = SceneLook.camera_fov,
) -> None:
    """Turn a Vision&Touch trajectory into a rosbag2 (MCAP, zstd) that `ros2 bag play` accepts.

    Example: smvae bag logs/20190408_183047_triangle_0_journal_0_1_1000.h5 --out peg_insertion
    """
    from smvae_ros.bags_from_logs import pick_trajectory, write_bag

    chosen = pick_trajectory(log, trajectory)
    columns = (SpinnerColumn(), TextColumn("writing step"), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        written = write_bag(chosen, out, fov, lambda: progress.advance(task))
    size = sum(file.stat().st_size for file in out.iterdir())
    console.print(f"{escape(chosen.name)}: {written} messages, {size / 1e6:.1f} MB, in {escape(str(out))}")


@app.command()
def replay(
    bag: Annotated[Path, typer.Argument(help="A rosbag2: its folder, or one .mcap or .db3 file.")],
    out: Annotated[Path, typer.Option(help="Folder for summary.json, latents.npz and predictions.png.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="A checkpoint (.safetensors); by default the one that ships.")
    ] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(help="Another topic of a modality, as MODALITY:=TOPIC; may be given several times."),
    ] = None,
    params_file: Annotated[
        Path | None, typer.Option(help="The node's parameter file (as config/fusion.yaml), for how sets are made.")
    ] = None,
    device: Annotated[DeviceName, typer.Option(help="'auto' takes the GPU where there is one.")] = DeviceName.auto,
) -> None:
    """Evaluate on a recording, offline: the errors of every modality predicted from each of the 15 subsets.

    The bag goes through the node's own synchroniser and engine; the same bag gives the same bytes twice.

    Example: smvae replay recordings/peg_insertion --out results --topic rgb:=/camera/image_raw
    """
    from smvae_ros.replay import replay as judge
    from smvae_ros.settings import FusionSettings, default_settings, read_parameters

    changes: list[dict[str, Any]] = [read_parameters(params_file)] if params_file else []
    changes.append({"streams": _topics(topic or [])})

    def settings(modalities: Sequence[Modality]) -> FusionSettings:
        chosen = default_settings(modalities)
        for change in changes:
            chosen = chosen.changed(change)
        return chosen

    with console.status("replaying") as status:
        seen = 0

        def count() -> None:
            nonlocal seen
            seen += 1
            status.update(f"replaying: {seen} sets")

        summary = judge(bag, checkpoint, out, settings, device.value, count)
    console.print(error_table(summary.evaluation.subsets, list(summary.streams)))
    console.print(
        ", ".join(f"{number} sets of {subset or 'nothing'}" for subset, number in summary.sets_by_subset.items())
    )
    console.print(f"summary.json, latents.npz and predictions.png in {escape(str(out))}")


def _topics(options: Iterable[str]) -> dict[str, dict[str, str]]:
    topics = {}
    for option in options:
        modality, separator, topic = option.partition(":=")
        if not (modality and separator and topic):
            raise ConfigurationError(f"--topic: expected MODALITY:=TOPIC, found '{option}'")
        topics[modality] = {"topic": topic}
    return topics

"""The `smvae` command with the robot side's commands: bag, log and replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from smvae_core.cli import DeviceName, app, console, error_table, run
from smvae_core.errors import ConfigurationError
from smvae_core.modality import Modality
from smvae_core.peg_scene import SceneLook

if TYPE_CHECKING:  # torch takes seconds to import; --help does without
    from smvae_ros.settings import FusionSettings


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
    from smvae_ros.bags import pick_trajectory, write_bag

    chosen = pick_trajectory(log, trajectory)
    columns = (SpinnerColumn(), TextColumn("writing step"), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        written = write_bag(chosen, out, fov, lambda: progress.advance(task))
    size = sum(file.stat().st_size for file in out.iterdir())
    console.print(f"{escape(chosen.name)}: {written} messages, {size / 1e6:.1f} MB, in {escape(str(out))}")


@app.command()
def log(
    bag: Annotated[list[Path], typer.Argument(help="Rosbag2 recordings of a robot: folders, or .mcap or .db3 files.")],
    out: Annotated[Path, typer.Option(help="Folder for the logs; made if it is not there.")],
    config: Annotated[
        Path | None,
        typer.Option(help="The configuration to train with: its modalities are written; by default the usual four."),
    ] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(help="Another topic of a modality, as MODALITY:=TOPIC; may be given several times."),
    ] = None,
    params_file: Annotated[
        Path | None, typer.Option(help="The node's parameter file (as config/fusion.yaml), for how sets are made.")
    ] = None,
) -> None:
    """Turn recordings of a robot into logs to train on: the sets that the node would make of them.

    A sensor that comes and goes, or a pause, ends a trajectory and begins another.

    Example: smvae log monday.bag tuesday.bag --out logs --config config/second_camera.yaml
    """
    from smvae_core.configuration import Configuration, load_configuration
    from smvae_core.data.vision_touch import find_trajectories
    from smvae_ros.bag_logs import write_logs

    modalities = (load_configuration(config) if config else Configuration()).model.modalities
    settings = _settings(params_file, topic or [])(modalities)
    columns = (SpinnerColumn(), TextColumn("writing set"), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        files = [
            file for one in bag for file in write_logs(one, modalities, settings, out, lambda: progress.advance(task))
        ]
        sets = int(progress.tasks[0].completed)
    written = [t for t in find_trajectories(out) if t.parts[0][1] in files]
    console.print(
        f"{sets} sets, {len(written)} {'trajectory' if len(written) == 1 else 'trajectories'}, "
        f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB, in {escape(str(out))}"
    )


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

    settings = _settings(params_file, topic or [])
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


def _settings(params_file: Path | None, topics: Sequence[str]) -> Callable[[Sequence[Modality]], FusionSettings]:
    """The settings of the node for a checkpoint's modalities, with a parameter file's changes and other topics."""
    from smvae_ros.settings import default_settings, read_parameters

    changes: list[dict[str, Any]] = [read_parameters(params_file)] if params_file else []
    changes.append({"streams": _topics(topics)})

    def chosen(modalities: Sequence[Modality]) -> FusionSettings:
        settings = default_settings(modalities)
        for change in changes:
            settings = settings.changed(change)
        return settings

    return chosen


def _topics(options: Iterable[str]) -> dict[str, dict[str, str]]:
    topics = {}
    for option in options:
        modality, separator, topic = option.partition(":=")
        if not (modality and separator and topic):
            raise ConfigurationError(f"--topic: expected MODALITY:=TOPIC, found '{option}'")
        topics[modality] = {"topic": topic}
    return topics

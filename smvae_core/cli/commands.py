"""The `smvae` command: simulate, train, reproduce, runs, evaluate, info, export. `smvae_ros.cli` adds its own."""

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import smvae_core
from smvae_core.cli import tables
from smvae_core.cli.exit import Commands, partly_done, run
from smvae_core.cli.options import DeviceOption, PrecisionName, PrecisionOption, SystemName, typed_command
from smvae_core.cli.reproduce import reproduce
from smvae_core.cli.trust import trust

app = typer.Typer(
    cls=Commands,
    help="The Set Multimodal VAE: learn one latent space for RGB, depth, force/torque and action from logs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
console = Console()


class Size(str, Enum):
    """Widths of the networks."""

    compact = "compact"
    paper = "paper"


class Peg(str, Enum):
    """Shapes of the peg and its hole."""

    round = "round"
    square = "square"
    triangle = "triangle"


def main() -> None:
    """Run the command of the library alone, without the commands of `smvae_ros`."""
    run(app)


def _version(wanted: bool) -> None:
    if wanted:
        console.print(smvae_core.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the logs; made if it is not there.")],
    trajectories: Annotated[int, typer.Option(min=1, help="Number of trajectories.")] = 10,
    steps: Annotated[int, typer.Option(min=2, help="Steps of each trajectory, 20 a second.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    peg: Annotated[Peg, typer.Option(help="Shape of the peg and its hole.")] = Peg.triangle,
    vary_scene: Annotated[bool, typer.Option("--vary-scene", help="Vary box, camera, colours and light too.")] = False,
    camera_yaw: Annotated[
        float, typer.Option(min=-180, max=180, help="Degrees by which the camera is turned around the box.")
    ] = 0.0,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the bytes do not depend on it.")] = 1,
) -> None:
    """Write Vision&Touch logs of simulated peg insertions (needs the extra 'sim').

    Example: smvae simulate --out logs --trajectories 64 --steps 400 --seed 1
    """
    from smvae_core.simulation.simulate import simulate as write_logs

    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=trajectories * steps)
        try:
            paths = write_logs(
                out,
                trajectories=trajectories,
                steps=steps,
                seed=seed,
                peg=peg.value,
                vary_scene=vary_scene,
                camera_yaw=camera_yaw,
                workers=workers,
                on_progress=lambda done: progress.advance(task, done),
            )
        except KeyboardInterrupt:
            console.print(f"interrupted: {len(list(out.glob('*.h5')))} whole files are in {out}", highlight=False)
            raise typer.Exit(130) from None
    console.print(f"{len(paths)} files, {trajectories} trajectories of {steps} steps, in {out}")


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="Folder with logs or a data set, of the configuration's format.")],
    out: Annotated[Path, typer.Option(help="Folder for the run: checkpoints, metrics, configuration.")],
    config: Annotated[
        Path | None, typer.Option(help="YAML configuration; by default the paper's (config/vision_touch.yaml).")
    ] = None,
    system: Annotated[SystemName | None, typer.Option(help="Which paper's model; smvae by default.")] = None,
    size: Annotated[Size | None, typer.Option(help="Networks: 'paper', or 'compact' for processors.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs, instead of the configuration's.")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = PrecisionName.full,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for the cache of the logs; by default beside them.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out log files that cannot be used; the run names them.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out, if there is one; --epochs may differ.")
    ] = False,
    init: Annotated[
        Path | None,
        typer.Option(help="Start from the weights of another run or checkpoint, where they fit; the rest is new."),
    ] = None,
) -> None:
    """Train on logs. The run's best.safetensors is the model to use.

    Ctrl-C saves. A run that was stopped or killed continues with --resume, to the same weights. To train with several
    processes: torchrun --nproc-per-node 2 -m smvae_core.cli train …

    smvae trust then teaches the finished model to notice sensors that lie.

    Example: smvae train --data logs --out runs/first --size compact --epochs 60
    """
    from smvae_core.configuration import Configuration, changed, load_configuration
    from smvae_core.training.run import Run, best_of
    from smvae_core.training.train import Interrupted, Job
    from smvae_core.training.train import train as fit

    begun = Run(out).configuration
    if config is None and resume and begun.exists():
        config = begun
    configuration = load_configuration(config) if config else Configuration()
    configuration = changed(
        configuration,
        {
            "model": {"system": system.value if system else None, "size": size.value if size else None},
            "training": {"epochs": epochs},
        },
    )
    command = typed_command()
    job = Job(
        data,
        out,
        configuration,
        command,
        device=device,
        precision=precision.value,
        cache=cache,
        skip_bad=skip_bad,
        resume=resume,
        init=best_of(init) if init else None,
    )
    # Only the first of the processes that torchrun starts prints.
    first = int(os.environ.get("RANK", 0)) == 0
    try:
        finished = fit(job, console)
    except Interrupted as stop:
        if first:
            console.print(escape(str(stop)), soft_wrap=True)
        raise typer.Exit(130) from None
    if first:
        info(finished.best)


app.command()(reproduce)
app.command()(trust)


@app.command()
def runs(folder: Annotated[Path, typer.Argument(help="A folder with runs, at any depth.")]) -> None:
    """List runs with their figures, the best first; damaged ones are listed at the end, and the exit code is 3.

    Example: smvae runs runs
    """
    from smvae_core.training.run import find_runs

    found, bad = find_runs(folder)
    if found:
        console.print(tables.run_table(found))
    partly_done(bad, len(found) + len(bad), "runs could not be read")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A run (its best epoch is taken), or a checkpoint.")],
    data: Annotated[Path, typer.Option(help="Data that it was not trained on, or with --held-out its own.")],
    out: Annotated[Path | None, typer.Option(help="Folder for report.html, its pictures and figures.json.")] = None,
    held_out: Annotated[
        bool,
        typer.Option("--held-out", help="Evaluate on the trajectories that the run held out; --data is the run's own."),
    ] = False,
    most: Annotated[int, typer.Option(min=0, help="Number of samples, evenly spaced; 0 for all.")] = 1000,
    draws: Annotated[int, typer.Option(min=1, help="Draws of the latent, for the log-likelihoods.")] = 4,
    outages: Annotated[
        bool, typer.Option("--outages", help="Only show the errors while sensors are off, on every whole trajectory.")
    ] = False,
    off: Annotated[
        list[str] | None,
        typer.Option(help="With --outages: a modality that is off; by default all images. Repeatable."),
    ] = None,
    device: DeviceOption = "auto",
    cache: Annotated[
        Path | None, typer.Option(help="Folder for the cache of the logs; by default beside them.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out log files that cannot be used.")] = False,
) -> None:
    """Evaluate a model on logs.

    Shows errors and log-likelihoods from every subset of its modalities (of more than six modalities: from all, all but
    one, and single ones), probes of the latent for contact and pose, robustness to spoiled modalities, and trivial
    baselines.

    With --outages: how well every modality is predicted while sensors are off, with memory and without, and how far
    σ and predicted intervals can be trusted then.

    Example: smvae evaluate runs/first --data other_logs --out figures
    """
    from smvae_core.checkpoint import load
    from smvae_core.device import arithmetic, torch_device
    from smvae_core.evaluation.held_out import read_logs_to_judge
    from smvae_core.evaluation.judgement import judge
    from smvae_core.evaluation.report import write_report
    from smvae_core.files import writable, write_atomically, writing_to
    from smvae_core.training.run import best_of

    path = best_of(model)
    loaded = load(path)
    where = torch_device(device)
    loaded.model.to(where)
    samples, others = read_logs_to_judge(loaded.metadata, data, held_out, cache, skip_bad, console)
    if out is not None:
        writable(out)
    if outages or off:
        from smvae_core.evaluation import outages as sensors_off

        with console.status("evaluating"), arithmetic(where):
            curves = sensors_off.outages(loaded.model, samples, loaded.mean, off or (), intervals=True)
        console.print(tables.outage_table(curves))
        if out is not None:
            with writing_to(out):
                write_atomically(out / "outages.json", (curves.model_dump_json(indent=2) + "\n").encode())
                sensors_off.picture(curves, out / "outages.png")
        return
    with console.status("evaluating") as status, arithmetic(where):
        found = judge(
            loaded,
            samples,
            others,
            (path.name, data.name),
            most or None,
            draws,
            lambda stage: status.update(f"evaluating: {stage}"),
        )
    console.print(tables.error_table(found.evaluation.subsets, loaded.model.names))
    console.print(tables.likelihood_table(found.evaluation, loaded.model.names, draws))
    if found.calibration is not None:
        console.print(tables.calibration_table(found.calibration))
    console.print(tables.baseline_table(found))
    probes = tables.probe_table(found)
    console.print("no probes: the data have no labels of contact and pose" if probes is None else probes)
    console.print(tables.robustness_table(found))
    if out is not None:
        with writing_to(out):
            write_atomically(out / "figures.json", (found.model_dump_json(indent=2) + "\n").encode())
            page = write_report(found, loaded.model, samples, out)
        console.print(f"the report is {escape(str(page))}", soft_wrap=True)


@app.command()
def info(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="A run (its best epoch is taken), or a checkpoint; by default the shipped one."),
    ] = None,
) -> None:
    """Describe a checkpoint: modalities, training data, how to train it again, held-out errors.

    Example: smvae info runs/first
    """
    from smvae_core.checkpoint import default_checkpoint, read_metadata
    from smvae_core.training.run import best_of

    path = best_of(checkpoint) if checkpoint else default_checkpoint()
    metadata = read_metadata(path)
    console.print(
        f"[bold]{escape(str(path))}[/]  {path.stat().st_size / 1e6:.1f} MB, "
        f"written by smvae {metadata.package_version}\n"
        f"system {metadata.model.system}, {metadata.model.size} networks, latent of {metadata.model.latent}"
    )
    console.print(tables.modality_table(metadata.model.modalities))
    if (training := metadata.training) is not None:
        console.print(
            f"trained for {training.epochs} epochs on {training.samples} samples of {training.data}; "
            f"{len(training.held_out)} trajectories held out\nto train it again:"
        )
        for command in training.commands:
            console.print(f"  {escape(command)}", soft_wrap=True, highlight=False)
    if metadata.metrics is not None:
        console.print(tables.error_table(metadata.metrics.subsets, [m.name for m in metadata.model.modalities]))
    if metadata.calibration is not None:
        console.print(tables.calibration_table(metadata.calibration))
    else:
        console.print("calibration: not measured; smvae evaluate measures it on logs", soft_wrap=True)
    if metadata.trust is None:
        console.print("trust: none, so sensors that lie are not noticed; smvae trust adds it", soft_wrap=True)
    else:
        record = metadata.trust
        console.print(f"trust: calibrated on {record.samples:,} sets of {len(record.calibrated_on)} trajectories")
        if record.figures is not None:
            console.print(tables.trust_table(record.figures))


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A run (its best epoch is taken), or a checkpoint.")],
    onnx: Annotated[Path, typer.Option(help="The file to write.")],
) -> None:
    """Write the whole model as one ONNX graph for other runtimes, after checking it against PyTorch (extra 'onnx').

    Example: smvae export runs/first/best.safetensors --onnx model.onnx
    """
    from smvae_core.checkpoint import load
    from smvae_core.inference.onnx_export import export_onnx
    from smvae_core.training.run import best_of

    exported = export_onnx(load(best_of(checkpoint)), onnx)
    console.print(tables.export_table(exported))
    console.print(
        f"{escape(str(onnx))}: {onnx.stat().st_size / 1e6:.1f} MB; "
        f"differs from PyTorch by {exported.difference:.1g} at most over {exported.subsets} subsets"
    )

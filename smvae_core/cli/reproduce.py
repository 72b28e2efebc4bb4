"""`smvae reproduce NAME`: an experiment of the SMVAE paper by one command."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from smvae_core.cli.options import DeviceOption, PrecisionName, PrecisionOption, typed_command
from smvae_core.reproduce.rows import ROWS


class ExperimentName(str, Enum):
    """The paper's experiments, and ablations of ours."""

    fashion_mnist = "fashion-mnist"
    mnist = "mnist"
    celeba = "celeba"
    vision = "vision"
    vision_touch = "vision-touch"
    ablation = "ablation"
    memory = "memory"


class RowName(str, Enum):
    """The rows of the tables: the systems, and SMVAE with other objectives."""

    _ignore_ = ["members", "name"]
    members = vars()
    for name in ROWS:
        members[name] = name


def reproduce(
    name: Annotated[ExperimentName, typer.Argument(help="Which experiment.")],
    out: Annotated[Path, typer.Option(help="Folder for the table, figures, JSON, and a run for each system.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder with the data; an error says which, and where from.")
    ] = None,
    systems: Annotated[
        list[RowName] | None,
        typer.Option(
            "--systems", help="A row of the tables; may be given several times. By default those of the experiment."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="For a processor: compact networks, few epochs, few test points.")
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Runs of each row, with seeds from 0, instead of the experiment's.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs, instead of the experiment's.")] = None,
    test_points: Annotated[int | None, typer.Option(min=2, help="Held-out samples to evaluate on.")] = None,
    draws: Annotated[int | None, typer.Option(min=1, help="Importance samples of each held-out sample.")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = PrecisionName.full,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out files that cannot be used.")] = False,
) -> None:
    """Repeat an experiment of the SMVAE paper: train the systems, evaluate them, compare with the published table.

    Ctrl-C saves; the same command continues, without repeating what is finished. Each system's folder is a run like
    those of smvae train; its last.safetensors is what was evaluated.

    Example: smvae reproduce fashion-mnist --quick --out fashion
    """
    from smvae_core.device import arithmetic, torch_device
    from smvae_core.reproduce.runner import Request
    from smvae_core.reproduce.runner import reproduce as run
    from smvae_core.training.session import Interrupted

    console = Console()
    request = Request(
        name=name.value,
        out=out,
        command=typed_command(),
        rows=tuple(dict.fromkeys(row.value for row in systems)) if systems else None,
        seeds=seeds,
        quick=quick,
        data=data,
        epochs=epochs,
        test_points=test_points,
        draws=draws,
        device=device,
        precision=precision.value,
        skip_bad=skip_bad,
    )
    try:
        with arithmetic(torch_device(device), tf32=precision == PrecisionName.tf32):
            report = run(request, console)
    except Interrupted as stop:
        console.print(
            f"stopped after {stop.epochs} whole epochs of {stop.path.parent}; the same command goes on",
            soft_wrap=True,
            markup=False,
        )
        raise typer.Exit(130) from None
    console.print(f"{escape(str(report))} holds the table", soft_wrap=True)

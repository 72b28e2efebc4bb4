"""`smvae trust MODEL`: teach a finished model to notice sensors that lie."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from smvae_core.cli.options import typed_command


def trust(
    model: Annotated[Path, typer.Argument(help="A run (its best epoch is taken), or a checkpoint; it is rewritten.")],
    data: Annotated[Path, typer.Option(help="Folder with the logs that the model was trained on.")],
    cache: Annotated[
        Path | None, typer.Option(help="Folder for the cache of the logs; by default beside them.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out log files that cannot be used.")] = False,
) -> None:
    """Teach a finished model to notice sensors that lie, in some minutes of one core.

    The model stays as it is. Faults of many kinds are put on its training data. Thresholds are calibrated on half of
    the trajectories that its training held out, and tried on the other half. The checkpoint then has trust, which the
    node and a replay use; the model card of a run says how well it does. Run it again after every training.

    Example: smvae trust runs/first --data logs
    """
    from smvae_core.checkpoint import load, save
    from smvae_core.cli.tables import trust_table
    from smvae_core.data.formats.protocol import LogError
    from smvae_core.evaluation.held_out import read_logs_to_judge
    from smvae_core.evaluation.trust import calibrate_trust
    from smvae_core.evaluation.trust_figures import judge_trust
    from smvae_core.training.faulty_episodes import altered
    from smvae_core.training.model_card import write_card
    from smvae_core.training.run import Run, best_of
    from smvae_core.training.trust import fit_trust

    console = Console()
    path = best_of(model)
    loaded = load(path)
    held_out, seen = read_logs_to_judge(loaded.metadata, data, True, cache, skip_bad, console)
    if seen is None:
        raise LogError(f"{data}: expected the logs that the model was trained on, found only those that it held out")
    columns = (TextColumn("training trust"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=1.0)
        network = fit_trust(loaded.model, seen, on_step=lambda part: progress.update(task, completed=part))
    with console.status("calibrating trust"):
        record = calibrate_trust(loaded.model, network, held_out)
        figures = judge_trust(loaded.model, network, record, held_out, altered)
        record = record.model_copy(update={"figures": figures})
    kept = loaded.metadata
    training = kept.training
    if training is not None:
        commands = dict.fromkeys([*training.commands, typed_command()])
        training = training.model_copy(update={"commands": tuple(commands)})
    save(path, loaded.model, loaded.mean, training, kept.metrics, kept.calibration, (network, record))
    thresholds = ", ".join(f"{name} {level:.0f}" for name, level in zip(loaded.model.names, record.threshold))
    console.print(
        f"{escape(str(path))}: trust calibrated on {record.samples:,} sets of {len(record.calibrated_on)} "
        f"trajectories; distrusted from (nats): {thresholds}",
        soft_wrap=True,
    )
    if figures is not None:
        console.print(trust_table(figures))
    if model.is_dir():
        write_card(Run(model), loaded.model, held_out)

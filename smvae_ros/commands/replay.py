"""`smvae replay`: evaluate on bags, offline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from smvae_core.cli.commands import console
from smvae_core.cli.exit import partly_done
from smvae_core.cli.options import DeviceOption
from smvae_core.cli.tables import error_table
from smvae_ros.commands import fault_options
from smvae_ros.commands.options import (
    Bags,
    ClusterOption,
    OtherTopics,
    ParameterFile,
    WorkersOption,
    settings_changes,
)

if TYPE_CHECKING:  # torch takes seconds to import; --help does without
    from smvae_ros.replay.job import ReplayJob
    from smvae_ros.replay.summary import Kind


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
    subset_rate: Annotated[
        float | None,
        typer.Option(
            metavar="HZ",
            help="Sets a second whose images are predicted from every subset of the modalities, besides from all that "
            "the set holds; 0 takes every set, and up to twice as long. By default every set of a bag of up to 30 s, "
            "and five a second of a longer one.",
        ),
    ] = None,
    workers: WorkersOption = None,
    cluster: ClusterOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Evaluate on bags, offline: report.html tells how good the fusion was, which modality was out when, and more.

    A bag goes through the node's own synchroniser and model; the same bag always gives the same bytes. Bags that could
    not be replayed are listed at the end, and the exit code is then 3; index.html leads to the reports of the others.
    With --cluster each bag is a task of a Dask cluster whose machines see the same files.

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
    job = ReplayJob(
        checkpoint=best_of(checkpoint) if checkpoint else None,
        changes=settings_changes(params_file, topic or []),
        device=device,
        faults={kind: tuple(words) for kind, words in options.items() if words},
        write_bag=write_bag,
        subset_rate=subset_rate,
    )
    named = named_bags(bags)
    if len(named) == 1 and cluster is None:
        _replay_one(next(iter(named.values())), out, job)
    else:
        _replay_several(named, out, job, workers, cluster)


def _replay_one(bag: Path, out: Path, job: ReplayJob) -> None:
    from smvae_ros.report.replays import replay_with_report
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


def _replay_several(
    named: dict[str, Path], out: Path, job: ReplayJob, workers: int | None, cluster: str | None
) -> None:
    from smvae_ros.report.replays import replay_many

    workers = min(len(named), workers or len(os.sched_getaffinity(0)))
    columns = (SpinnerColumn(), TextColumn("replaying bag"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=len(named))
        summary = replay_many(named, out, job, lambda: progress.advance(task), workers, cluster)
    if summary.evaluation is not None:
        console.print(error_table(summary.evaluation.subsets, list(summary.evaluation.subsets[0].subset)))
    for result in summary.bags:
        if result.error is None:
            told = "; ".join([f"{result.sets} sets", *result.damage, *result.warnings])
            console.print(escape(f"{result.bag}: {told}"), soft_wrap=True)
    console.print(
        f"index.html and summary.json of all, and a folder for each bag, in {escape(str(out))}", soft_wrap=True
    )
    bad = [result.error for result in summary.bags if result.error is not None]
    partly_done(bad, len(named), "bags could not be replayed")

"""Runs an experiment: trains each system by the trainer, judges what it learned, and writes the table as it grows."""

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import torch
from rich.console import Console

import smvae_core
from smvae_core.checkpoint import Checkpoint, load
from smvae_core.data.samples import Samples
from smvae_core.device import Device, torch_device
from smvae_core.evaluation.held_out import read_logs_to_judge
from smvae_core.reproduce import bimodal, senses
from smvae_core.reproduce.experiments import EXPERIMENTS, Experiment, Name, ReproductionError, Scale
from smvae_core.reproduce.report import write_report
from smvae_core.reproduce.results import Settings, SystemResult, read_result, write_result
from smvae_core.training.run import Job, Precision, Run, read_metrics
from smvae_core.training.train import train


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        name: of the experiment.
        out: folder for everything that is written.
        command: how it was called.
        systems: to be compared.
        seeds: how many, from 0.
        quick: for a processor, instead of the paper's settings.
        data: folder; None for the experiment's usual place.
        changes: fields of `Scale` that differ.
        skip_bad: go on without files that cannot be used.
    """

    name: Name
    out: Path
    command: str
    systems: Sequence[str]
    seeds: int
    quick: bool
    data: Path | None
    changes: dict[str, int]
    device: Device
    precision: Precision
    skip_bad: bool


def reproduce(request: Request, console: Console) -> Path:
    """Run it, or what is left of it; the report.

    Raises:
        ReproductionError: the data are not there, or `out` holds a run on others.
        LogError: data cannot be read.
        TrainingError: as `train`.
        Interrupted: Ctrl-C, after saving.
    """
    experiment = EXPERIMENTS[request.name]
    scale = replace(experiment.quick if request.quick else experiment.paper, **request.changes)
    folder, form = experiment.folder(request.data)
    results: list[SystemResult] = []
    for seed in range(request.seeds):
        for system in request.systems:
            console.rule(f"{request.name}: {system}, seed {seed}")
            configuration = experiment.configuration(system, seed, scale, folder, form)
            settings = Settings(
                experiment=request.name,
                data=str(folder.resolve()),
                configuration=configuration,
                test_points=scale.test_points,
                draws=scale.draws,
                prior_draws=scale.prior_draws,
                map_points=scale.map_points,
                precision=request.precision,
            )
            results.append(_result(request, experiment, scale, folder, settings, console))
            write_report(request.out, experiment, results, request.command)
    return request.out / "README.md"


def _result(
    request: Request, experiment: Experiment, scale: Scale, data: Path, settings: Settings, console: Console
) -> SystemResult:
    configuration = settings.configuration
    out = request.out / f"{configuration.model.system}-seed{configuration.training.seed}"
    found = read_result(out / "result.json")
    if found is not None and found.settings == settings:
        console.print("finished before")
        return found
    cache = request.out / "cache"
    job = Job(
        data,
        out,
        configuration,
        request.command,
        device=request.device,
        precision=request.precision,
        cache=cache,
        skip_bad=request.skip_bad,
        resume=True,
    )
    run = train(job, console)
    # The last epoch, not the best: that one was chosen on the samples that are judged here.
    loaded = load(run.last)
    device = torch_device(request.device)
    loaded.model.to(device)
    began = time.monotonic()
    samples, others = read_logs_to_judge(loaded.metadata, data, True, cache, request.skip_bad, console)
    if others is None:
        raise ReproductionError(f"{run.folder}: expected a run that held some samples out, found none")
    _check_data(run, loaded, others, data)
    most = min(scale.test_points or len(samples), len(samples))
    console.print(f"judging {most} of {len(samples)} held-out samples")
    figures = _judged(experiment, scale, loaded, (others, samples), out, device, console)
    result = SystemResult(
        settings=settings,
        quick=request.quick,
        data=f"{data.name}: {len(others)} samples trained on, {len(samples)} held out",
        training_seconds=sum(line["seconds"] for line in read_metrics(Run(out).metrics)),
        judging_seconds=round(time.monotonic() - began, 1),
        device=_device(device),
        versions={"smvae": smvae_core.__version__, "torch": torch.__version__, "python": platform.python_version()},
        date=date.today().isoformat(),
        parameters=sum(p.numel() for p in loaded.model.parameters()),
        **figures,
    )
    write_result(out / "result.json", result)
    return result


def _check_data(run: Run, loaded: Checkpoint, seen: Samples, data: Path) -> None:
    """A finished run trains no more, whatever the data: those of another copy may have as many samples."""
    means = seen.mean()
    if not all(torch.allclose(means[name], loaded.mean[name].cpu(), atol=1e-4) for name in means):
        raise ReproductionError(
            f"{run.folder}: expected the data that it was trained on, found others in {data}; name another --out"
        )


def _judged(
    experiment: Experiment,
    scale: Scale,
    loaded: Checkpoint,
    parts: tuple[Samples, Samples],
    out: Path,
    device: torch.device,
    console: Console,
) -> dict[str, object]:
    if experiment.given is None:
        return senses.judged(scale, loaded, parts, out)
    return bimodal.judged(experiment.given, scale, loaded, parts, out, device, console)


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    return f"{model}, {torch.get_num_threads()} threads"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []

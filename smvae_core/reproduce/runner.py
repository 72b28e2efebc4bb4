"""Runs an experiment: trains each row, judges what it learned, and writes the report as it grows."""

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
from smvae_core.reproduce import bimodal, multimodal
from smvae_core.reproduce.experiments import EXPERIMENTS, Experiment, Name, ReproductionError, Scale
from smvae_core.reproduce.report import write_report
from smvae_core.reproduce.results import Figures, Settings, SystemResult, read_result, write_result
from smvae_core.reproduce.rows import ROWS
from smvae_core.training.run import Job, Precision, Run, read_metrics
from smvae_core.training.train import train


@dataclass(frozen=True)
class Request:
    """The arguments of one call of `smvae reproduce`.

    Attributes:
        name: of the experiment.
        out: folder for everything that is written.
        command: how it was called.
        rows: names of the rows to compare, of `rows.ROWS`; None for those of the experiment.
        seeds: number of seeds, from 0; None for as many as the scale has.
        quick: the scale for a processor, instead of the paper's.
        data: folder; None for the experiment's usual place.
        epochs, test_points, draws: instead of those of the scale; None leaves it as it is.
        skip_bad: go on without files that cannot be used.
    """

    name: Name
    out: Path
    command: str
    rows: Sequence[str] | None
    seeds: int | None
    quick: bool
    data: Path | None
    epochs: int | None
    test_points: int | None
    draws: int | None
    device: Device
    precision: Precision
    skip_bad: bool

    def scale(self, experiment: Experiment) -> Scale:
        """Return the scale that is asked for."""
        scale = experiment.quick if self.quick else experiment.paper
        return replace(
            scale,
            epochs=self.epochs or scale.epochs,
            test_points=self.test_points or scale.test_points,
            draws=self.draws or scale.draws,
            seeds=self.seeds or scale.seeds,
        )


def reproduce(request: Request, console: Console) -> Path:
    """Run the experiment, or the part that is not finished yet, and return the path of its report.

    Raises:
        ReproductionError: the data are not there, or `out` holds a run on others.
        LogError: data cannot be read.
        TrainingError: as `train`.
        Interrupted: Ctrl-C, after saving.
    """
    experiment = EXPERIMENTS[request.name]
    scale = request.scale(experiment)
    folder, form = experiment.folder(request.data)
    results: list[SystemResult] = []
    for seed in range(scale.seeds):
        for name in request.rows or experiment.rows:
            console.rule(f"{request.name}: {name}, seed {seed}")
            configuration = experiment.configuration(ROWS[name], seed, scale, folder, form)
            settings = Settings(
                experiment=request.name,
                row=name,
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
    out = request.out / f"{settings.row}-seed{configuration.training.seed}"
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
        **dict(figures),
    )
    write_result(out / "result.json", result)
    return result


def _check_data(run: Run, loaded: Checkpoint, seen: Samples, data: Path) -> None:
    """Raise the error of a finished run that was trained on other data of the same size."""
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
) -> Figures:
    if experiment.given is None:
        return multimodal.judged(scale, loaded, parts, out, experiment.outages)
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

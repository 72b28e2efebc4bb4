"""The offline trainer: a folder of logs in, a checkpoint out."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lightning_fabric
import numpy as np
import torch
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from smvae_core import checkpoint
from smvae_core.configuration import Configuration
from smvae_core.data.samples import Samples, fit_modalities, read_samples, split_by_trajectory
from smvae_core.data.vision_touch import find_trajectories
from smvae_core.engine import Device
from smvae_core.errors import SMVAEError
from smvae_core.evaluation import Evaluation, evaluate
from smvae_core.model import MultimodalVAE
from smvae_core.objective import Bound, SubsetObjective, random_subsets

# Held-out figures of an epoch look at no more than this many samples; those of the finished run look at all.
_EPOCH_SAMPLES = 512


class TrainingError(SMVAEError):
    """A run that cannot start or go on."""


class Interrupted(Exception):
    """Ctrl-C: the epochs finished so far are in the checkpoint."""

    def __init__(self, epochs: int, path: Path) -> None:
        super().__init__(f"stopped after {epochs} whole epochs; everything learned so far is in {path}")


@dataclass(frozen=True)
class Run:
    """The files of a run, in its folder."""

    folder: Path

    @property
    def best(self) -> Path:
        """Checkpoint of the epoch with the best held-out figures."""
        return self.folder / "best.safetensors"

    @property
    def last(self) -> Path:
        """Checkpoint of the last epoch, or of the moment of Ctrl-C."""
        return self.folder / "last.safetensors"

    @property
    def metrics(self) -> Path:
        """One JSON object a line and an epoch."""
        return self.folder / "metrics.jsonl"

    @property
    def configuration(self) -> Path:
        """The configuration, whole: training with it gives the same run."""
        return self.folder / "configuration.yaml"


def train(
    data: Path,
    out: Path,
    configuration: Configuration,
    command: str,
    device: Device = "auto",
    console: Console = Console(),
) -> Run:
    """Train on the logs in `data`, leaving a run in `out`.

    Args:
        command: how it was called, kept in the checkpoint.
        console: where progress and held-out figures go.

    Raises:
        LogError: the logs cannot be read, or are too few to hold some out.
        TrainingError: `out` holds a run already, or the loss is no longer finite.
        Interrupted: Ctrl-C, after saving.
    """
    run = Run(out)
    if run.last.exists() or run.best.exists():
        raise TrainingError(f"{out}: expected a folder without a run, found one; name another with --out")
    training, held_out = split_by_trajectory(
        find_trajectories(data), configuration.data.held_out, configuration.data.seed
    )
    modalities = fit_modalities(configuration.model.modalities, training)
    samples, unseen = (
        _read(part, modalities, what, console) for part, what in ((training, "training"), (held_out, "held-out"))
    )
    run.folder.mkdir(parents=True, exist_ok=True)
    run.configuration.write_text(yaml.safe_dump(configuration.model_dump(mode="json"), sort_keys=False))

    torch.manual_seed(configuration.training.seed)
    model = MultimodalVAE(configuration.model.model_copy(update={"modalities": modalities}))
    loop = _Loop(configuration, model, samples, unseen, run, command, str(data), device, console)
    loop.fit()
    return run


class _Loop:
    """The state of a run between its epochs."""

    def __init__(
        self,
        configuration: Configuration,
        model: MultimodalVAE,
        samples: Samples,
        unseen: Samples,
        run: Run,
        command: str,
        data: str,
        device: Device,
        console: Console,
    ) -> None:
        self.configuration, self.samples, self.unseen = configuration, samples, unseen
        self.run, self.command, self.data, self.console = run, command, data, console
        self.mean = samples.mean()
        self.model = model
        self.fabric = lightning_fabric.Fabric(accelerator={"cuda": "gpu"}.get(device, device), devices=1)
        objective = SubsetObjective(model.to(memory_format=torch.channels_last), configuration.objective)
        optimizer = torch.optim.Adam(objective.parameters(), configuration.training.learning_rate)
        self.objective, self.optimizer = self.fabric.setup(objective, optimizer)
        self.random = np.random.default_rng(configuration.training.seed)
        self.subsets = torch.Generator().manual_seed(configuration.training.seed)
        self.finished = 0
        self.best = math.inf

    def fit(self) -> None:
        epochs = self.configuration.training.epochs
        self.console.print(
            f"{len(self.samples)} training samples of {len(self.samples.names)} trajectories, "
            f"{len(self.unseen)} held-out of {len(self.unseen.names)}, on {self.fabric.device}"
        )
        try:
            while self.finished < epochs:
                bound = self._epoch()
                self.finished += 1
                self._judge(bound)
        except KeyboardInterrupt:
            self._save(self.run.last, None)
            raise Interrupted(self.finished, self.run.last) from None
        self._conclude()

    def _epoch(self) -> dict[str, float]:
        self.objective.train()
        total: dict[str, float] = {}
        steps = -(-len(self.samples) // self.configuration.training.batch_size)
        with _bar(self.console) as progress:
            task = progress.add_task(f"epoch {self.finished + 1}", total=steps, figures="")
            for step, rows in enumerate(self._batches(steps)):
                terms = _floats(self._step(rows, self.finished + step / steps))
                for name, value in terms.items():
                    total[name] = total.get(name, 0.0) + value * len(rows) / len(self.samples)
                progress.update(task, advance=1, figures=_figures(terms))
        return total

    def _batches(self, steps: int) -> Iterator[np.ndarray]:
        return iter(np.array_split(self.random.permutation(len(self.samples)), steps))

    def _step(self, rows: np.ndarray, epoch: float) -> Bound:
        batch, available = self.samples.batch(rows)
        subset = random_subsets(available, self.configuration.objective, self.subsets)
        batch, available, subset = self.fabric.to_device((batch, available, subset))
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(epoch)
        bound = self.objective(batch, available, subset, self.configuration.objective.annealed_beta(epoch))
        if not bool(torch.isfinite(bound.loss)):
            raise TrainingError(
                f"epoch {self.finished + 1}: the loss is {float(bound.loss)}; {self.run.last} is the last good state"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(bound.loss)
        self.optimizer.step()
        return bound

    def _learning_rate(self, epoch: float) -> float:
        settings = self.configuration.training
        if settings.schedule == "constant":
            return settings.learning_rate
        return 0.5 * settings.learning_rate * (1.0 + math.cos(math.pi * epoch / settings.epochs))

    def _judge(self, bound: dict[str, float]) -> None:
        names = self.model.names
        subsets = [names, *(tuple(n for n in names if n != name) for name in names), *((name,) for name in names)]
        subsets = list(dict.fromkeys(subset for subset in subsets if subset))
        figures = evaluate(self.model, self.unseen, self.mean, subsets, most=_EPOCH_SAMPLES)
        score = float(np.mean([list(row.share.values()) for row in figures.subsets]))
        self._save(self.run.last, None)
        if score < self.best:
            self.best = score
            self._save(self.run.best, None)
        line = {"epoch": self.finished, "training": bound, "held_out": figures.model_dump()["subsets"], "score": score}
        with self.run.metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")
        full = "  ".join(f"{name} {share:.3f}" for name, share in figures.of(*names).share.items())
        self.console.print(
            f"epoch {self.finished:3d}  {_figures(bound)}  held-out share of the mean's error: {full}  all {score:.3f}"
        )

    def _conclude(self) -> None:
        """Judge the best epoch on every held-out sample and all subsets, and keep that with it."""
        best = checkpoint.load(self.run.best)
        self.model.load_state_dict(best.model.state_dict())
        metrics = evaluate(self.model, self.unseen, self.mean)
        self._save(self.run.best, metrics)

    def _save(self, path: Path, metrics: Evaluation | None) -> None:
        record = checkpoint.TrainingRecord(
            data=f"{len(self.samples.names) + len(self.unseen.names)} trajectories, "
            f"{len(self.samples) + len(self.unseen)} steps, from {Path(self.data).name}",
            commands=(self.command,),
            configuration=self.configuration,
            epochs=self.finished,
            samples=len(self.samples),
            held_out=self.unseen.names,
        )
        checkpoint.save(path, self.model, self.mean, record, metrics)


def _read(trajectories: list, modalities: tuple, what: str, console: Console) -> Samples:
    with _bar(console) as progress:
        task = progress.add_task(f"reading {what}", total=sum(len(t.parts) for t in trajectories), figures="")
        return read_samples(trajectories, modalities, on_part=lambda path: progress.advance(task))


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[figures]}"), console=console, transient=True)


def _floats(bound: Bound) -> dict[str, float]:
    terms = {"loss": bound.loss.item(), "kl": bound.kl.item()}
    return terms | {f"log p({name})": value.item() for name, value in bound.log_likelihood.items()}


def _figures(terms: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.1f}" for name, value in terms.items())

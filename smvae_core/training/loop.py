"""The steps and epochs of a run, on one or several processes."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import lightning_fabric
import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from smvae_core.capture import Recorder
from smvae_core.configuration import Configuration
from smvae_core.data.corruption import Plan
from smvae_core.data.loader import Loader
from smvae_core.data.samples import Samples
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.progress import progress_bar
from smvae_core.systems.draws import Draws
from smvae_core.training.interruption import Interruption
from smvae_core.training.lanes import Lanes, Learning
from smvae_core.training.lessons import Teacher
from smvae_core.training.objective import Bound, Objective
from smvae_core.training.run import TrainingError
from smvae_core.training.state import epoch_order, optimizer_tensors, restore_optimizer, step_generator
from smvae_core.training.static_step import Inputs, StaticSteps
from smvae_core.training.totals import Totals

# Steps between two checks that the loss is finite. A GPU runs ahead of Python and would wait at each check.
CHECKED_EVERY = {"cpu": 1, "cuda": 50}
_NAMED_SAMPLES = 5


@dataclass
class Loop:
    """Weights, optimiser and position of a run.

    `run_epoch` trains one epoch and `finish_epoch` ends it; evaluating and saving between the two are the caller's.

    Attributes:
        configuration: of the run.
        model: what is trained.
        samples: the training part.
        fabric: launched.
        interruption: looked at between steps.
        console: where the progress bar is shown.
        static: take steps over tensors that stay in place, and on a GPU record them as graphs; None, where that pays:
            for one process on a GPU, but not with the scaled gradients of 16-mixed. With memory only the latent and
            the decoder epochs have such steps.
        epoch: finished epochs.
        step: finished steps of the next epoch.
        totals: of the steps of the next epoch.
    """

    configuration: Configuration
    model: MultimodalVAE
    samples: Samples
    fabric: lightning_fabric.Fabric
    interruption: Interruption
    console: Console
    static: bool | None = None
    epoch: int = 0
    step: int = 0
    totals: Totals = field(init=False)

    def __post_init__(self) -> None:
        settings = self.configuration.training
        if settings.batch_size < self.fabric.world_size:
            raise TrainingError(
                f"training.batch_size: expected at least one sample for each of {self.fabric.world_size} processes, "
                f"found {settings.batch_size}"
            )
        device = self.fabric.device
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types
        scaled = getattr(self.fabric._precision, "scaler", None) is not None
        if self.static is None:
            self.static = device.type == "cuda" and self.fabric.world_size == 1 and not scaled
        masked = self.static and self.model.memory is None
        objective = Objective(self.model, self.configuration.objective, masked=masked)
        # Under 16-mixed the fused Adam unscales the gradients itself, after they have been clipped.
        fused = settings.clip is None or not scaled
        # A graph reads the learning rate from the device.
        rate = torch.tensor(settings.learning_rate, device=device) if self.static else settings.learning_rate
        optimizer = torch.optim.Adam(objective.parameters(), rate, fused=fused, capturable=self.static)
        self.objective, self.optimizer = self.fabric.setup(objective, optimizer)
        self._steps: StaticSteps | None = None
        if self.static:
            self._steps = StaticSteps(self._static_step, self._kept, optimizer, device, self._recorder())
        self.loader = Loader(self.samples, device)
        self.totals = Totals.zero(len(self.model.names), device)
        has_memory = self.model.memory is not None
        self.lanes = Lanes(self.samples, self.configuration, self.fabric, self.model) if has_memory else None
        self.teacher: Teacher | None = None
        if self.lanes and self.lanes.learning(0) != "everything":
            self.teacher = Teacher(self.loader, self.model, self.configuration.corruption, settings.seed)
        self.speed = 0.0
        self._unchecked: list[tuple[int, np.ndarray, Bound]] = []

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that `restore` needs, by name. A collective call: every process must make it."""
        weights = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        lanes = self.lanes.tensors() if self.lanes else {}
        teacher = self.teacher.tensors() if self.teacher else {}
        return weights | optimizer_tensors(self.optimizer) | self._summed() | lanes | teacher

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load what `tensors` returned; the caller sets the position."""
        self.model.load_state_dict(
            {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        )
        restore_optimizer(self.optimizer, tensors)
        if self.lanes:
            self.lanes.restore(tensors)
        if self.teacher:
            self.teacher.restore(tensors)
        # The saved totals are sums over all processes, and `finish_epoch` sums over all processes again.
        if self.fabric.is_global_zero:
            self.totals.restore(tensors)

    @property
    def steps(self) -> int:
        """Steps of the next epoch."""
        if self.lanes:
            return self.lanes.steps(self.epoch)
        return -(-len(self.samples) // self.configuration.training.batch_size)

    @property
    def learning(self) -> Learning:
        """The part of the model that learns in the next epoch."""
        return self.lanes.learning(self.epoch) if self.lanes else "everything"

    def run_epoch(self) -> Iterator[None]:
        """Train what is left of the next epoch; yield, after a whole and finite step, where the state should be saved.

        Raises:
            TrainingError: the loss is no longer finite; the batch is named.
            KeyboardInterrupt: a signal asked for it; a yield went before.
        """
        settings, began, first = self.configuration.training, time.monotonic(), self.step
        self.objective.train()
        if self.lanes:
            self.lanes.prepare(self.epoch)
        if self.teacher and self.learning != "everything":
            self.teacher.prepare(self.console)
        order = self._order()
        with progress_bar(self.console) as bar:
            title = f"epoch {self.epoch + 1}/{settings.epochs}"
            task = bar.add_task(title, total=self.steps, completed=first, figures="")
            parts = [(rows, self._part(len(rows))) for rows in order[first:]]
            nothing: list[tuple[Batch, Tensor]] = [({}, torch.empty(0))] * len(parts)
            batches = nothing if self.learning == "memory" else self.loader.batches(rows[part] for rows, part in parts)
            for (rows, part), (batch, available) in zip(parts, batches):
                self.train_step(rows, part, batch, available)
                stop = False
                if self.step % CHECKED_EVERY[self.fabric.device.type] == 0 or self.step == self.steps:
                    bound = self._unchecked[-1][2]
                    stop = self.check()
                    done = sum(len(r) for r in order[first : self.step])
                    self.speed = done / max(time.monotonic() - began, 1e-9)
                    bar.update(task, completed=self.step, figures=self._figures(bound))
                if stop or (self.step % settings.save_steps == 0 and self.step < self.steps):
                    yield
                if stop:
                    raise KeyboardInterrupt

    def finish_epoch(self) -> dict[str, float]:
        """Move to the next epoch; return the means over the one that ends, by name."""
        log_p, count, terms = (x.cpu() for x in self._summed().values())
        means = {"loss": float(terms[0] / terms[2]), "kl": float(terms[1] / terms[2])}
        for m, name in enumerate(self.model.names):
            if count[:, m].any():
                means[f"log p({name})"] = float(log_p[:, m].sum() / count[:, m].sum())
        for size in range(1, len(self.model.names) + 1):
            for m, name in enumerate(self.model.names):
                if count[size, m]:
                    means[f"log p({name}) from {size}"] = float(log_p[size, m] / count[size, m])
        self.totals.clear()
        self.epoch, self.step = self.epoch + 1, 0
        return means

    def learning_rate(self, epoch: float) -> float:
        """Return the learning rate at a (fractional) epoch counted from 0."""
        settings, sequences = self.configuration.training, self.configuration.sequences
        first, last, rate = 0, settings.epochs, settings.learning_rate
        if self.lanes:
            taught = sequences.latent_epochs
            first = taught + sequences.decoder_epochs
            if epoch < taught:
                first, last, rate = 0, taught, sequences.latent_learning_rate or rate
            elif epoch < first:
                first, last, rate = taught, first, sequences.decoder_learning_rate or rate
        if settings.schedule == "constant":
            return rate
        return 0.5 * rate * (1.0 + math.cos(math.pi * min(1.0, (epoch - first) / max(1, last - first))))

    def train_step(self, rows: np.ndarray, part: slice, batch: Batch, available: Tensor) -> None:
        """Take one step of the optimiser.

        Args:
            rows: numbers of the samples of the whole batch.
            part: the part of `rows` that this process trains on; `batch` and `available` hold it.
            batch: observations, model units.
            available: what each sample has, (B, M), bool. While memory learns alone neither is read.

        Raises:
            TrainingError: the loss is not finite; on a GPU `check` raises it, some steps later.
        """
        settings, now = self.configuration, self.epoch + self.step / self.steps
        # Every process draws for the whole batch and takes its part, so the number of processes changes nothing.
        generator = step_generator(settings.training.seed, self.epoch, self.step)
        everything = torch.from_numpy(self.samples.available[rows])
        model, dimensions = self.model, self.model.configuration.latent
        drawn, window = model.system.draw(settings.objective, everything, dimensions, model.names, generator), None
        if self.lanes:
            drawn = self.lanes.with_memory(drawn, self.epoch, self.step, generator)
            window = self.lanes.window(self.epoch, self.step)
        drawn = drawn.part(part)
        beta, ramp = settings.objective.annealed_beta(now), settings.objective.ramp(self.epoch * self.steps + self.step)
        corrupted, lesson, rate = None, None, self.learning_rate(now)
        if self.teacher and self.learning != "everything":
            lesson, batch = self.teacher.lesson(rows, generator, part), batch if self.learning == "decoders" else {}
        elif settings.corruption.active:
            modalities = tuple(model.modalities.values())
            plan = Plan.draw(everything, settings.corruption, modalities, generator).part(part)
            corrupted = plan.apply(batch, modalities)
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"].fill_(rate) if self.static else rate
        inputs = Inputs(batch, drawn, beta, ramp, corrupted, window, lesson)
        steps = self._steps if lesson is not None or window is None else None
        bound = self.objective(*inputs) if steps is None else steps.run(inputs)
        if self.lanes and bound.state is not None:
            self.lanes.keep(bound.state)
        self._unchecked.append((self.step, rows[part], bound))
        if steps is None:
            if self.fabric.device.type == "cpu":
                self._check_finite()
            # Fabric averages the gradients of the processes, whose parts of a batch may differ by one sample.
            self._learn(bound, drawn, bound.loss * (drawn.subsets.shape[1] * self.fabric.world_size / len(rows)))
        self.step += 1

    def _learn(self, bound: Bound, drawn: Draws, loss: Tensor) -> None:
        """Move the weights against the gradient of `loss`, and add the step to the totals."""
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        if (clip := self.configuration.training.clip) is not None:
            self.fabric.clip_gradients(self.objective, self.optimizer, max_norm=clip, error_if_nonfinite=False)
        self.optimizer.step()
        self.totals.add(bound, drawn.subsets[:, :, : len(self.model.names)])

    def _static_step(self, inputs: Inputs) -> Bound:
        bound: Bound = self.objective(*inputs)
        self._learn(bound, inputs.draws, bound.loss)
        return bound

    def _kept(self) -> list[Tensor]:
        return [*self.model.state_dict().values(), *self.totals.tensors().values()]

    def _recorder(self) -> Recorder | None:
        return Recorder(self.fabric.device) if self.fabric.device.type == "cuda" else None

    def _summed(self) -> dict[str, Tensor]:
        """Return the totals over all processes, by name."""
        summed = {name: self.fabric.all_reduce(x.clone(), reduce_op="sum") for name, x in self.totals.tensors().items()}
        return cast(dict[str, Tensor], summed)  # Fabric returns what it was given

    def _order(self) -> list[np.ndarray]:
        """Return the numbers of the samples of each step of the next epoch."""
        if self.lanes:
            return self.lanes.order(self.epoch)
        order = epoch_order(len(self.samples), self.configuration.training.seed, self.epoch)
        return np.array_split(order, self.steps)

    def _part(self, count: int) -> slice:
        """Return the part of a batch of `count` samples that this process trains on."""
        if self.lanes:
            return self.lanes.part
        mine = np.array_split(np.arange(count), self.fabric.world_size)[self.fabric.global_rank]
        return slice(int(mine[0]), int(mine[-1]) + 1)

    def check(self) -> bool:
        """Return whether any process was asked to stop.

        Raises:
            TrainingError: a loss since the last check is not finite; the batch is named.
        """
        self._check_finite()
        self._unchecked.clear()
        if self.fabric.world_size == 1:
            return self.interruption.wanted
        return bool(self.fabric.all_reduce(torch.tensor(float(self.interruption.wanted)), reduce_op="sum"))

    def _check_finite(self) -> None:
        if bool(torch.stack([bound.loss.detach() for _, _, bound in self._unchecked]).isfinite().all()):
            return
        step, rows, bound = next(item for item in self._unchecked if not bool(item[2].loss.isfinite()))
        bad: np.ndarray = (~bound.rows.isfinite()).any(dim=0).cpu().numpy()
        suspects = rows[np.any(bad, axis=1)] if bad.any() else rows
        names = [name for name, found in zip(self.model.names, np.any(bad, axis=0).tolist()) if found]
        told = ", ".join(map(self._told, suspects[:_NAMED_SAMPLES]))
        raise TrainingError(
            f"epoch {self.epoch + 1}, batch {step + 1} of {self.steps}: expected a finite loss, found "
            f"{float(bound.loss.detach())}"
            + (f", from log p({', '.join(names)})" if names else "")
            + f", for {len(suspects)} samples: {told}{', …' if len(suspects) > _NAMED_SAMPLES else ''}; a lower "
            "training.learning_rate or training.clip may help"
        )

    def _told(self, sample: int) -> str:
        return f"{self.samples.names[self.samples.trajectory[sample]]} step {self.samples.step[sample]}"

    def _figures(self, bound: Bound) -> str:
        left = (self.configuration.training.epochs - self.epoch) * len(self.samples) - self.step * len(
            self.samples
        ) // self.steps
        seconds = int(left / self.speed)
        return (
            f"{self.speed:.0f} samples/s, {seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left  "
            f"loss {float(bound.loss.detach()):.1f}  kl {float(bound.kl):.1f}"
        )

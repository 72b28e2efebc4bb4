"""One training from its first step, or from its saved state, to its end: everything around the epochs."""

import hashlib
import json
import time
from pathlib import Path

import lightning_fabric
import numpy as np
import torch
import yaml
from rich.console import Console

from smvae_core import checkpoint
from smvae_core.calibration import Calibration
from smvae_core.data.formats.protocol import LogError
from smvae_core.data.joints import logged_joints
from smvae_core.data.samples import Samples, fitted
from smvae_core.data.splits import SPLITS, at_most, calibration_and_test
from smvae_core.evaluation.calibration import calibrate
from smvae_core.evaluation.outages import Outages, outages
from smvae_core.evaluation.prediction_errors import evaluate
from smvae_core.files import write_atomically
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.plots.predictions import picture_rows, tiled
from smvae_core.scores import Evaluation
from smvae_core.subsets import few_subsets, told_subsets
from smvae_core.training.initialisation import initialise, recipe
from smvae_core.training.interruption import Interruption
from smvae_core.training.loop import Loop
from smvae_core.training.model_card import write_card
from smvae_core.training.run import Job, Run, TrainingError
from smvae_core.training.state import Position, StateWriter, continued, load_state
from smvae_core.training.tensorboard import TensorBoard, calibration_scalars, epoch_scalars

# Held-out samples that an epoch is judged on; the finished run is judged on all of them.
_EPOCH_SAMPLES = 512
# Held-out trajectories whose outages an epoch is judged on, of a model with memory.
_EPOCH_TRAJECTORIES = 4
# Judging all latent epochs would take as long as they do.
_JUDGED_LATENT_EPOCHS = 5


class Interrupted(Exception):
    """Ctrl-C came, and everything that was learned is saved.

    Attributes:
        epochs: whole epochs.
        path: the checkpoint to use meanwhile.
    """

    def __init__(self, epochs: int, path: Path, judging: bool = False) -> None:
        self.epochs, self.path = epochs, path
        stopped = "training is done, but not its judgement" if judging else f"stopped after {epochs} whole epochs"
        super().__init__(f"{stopped}; everything learned so far is in {path}; the same command with --resume goes on")


class Session:
    """One process's part in a training.

    Args:
        job: what is trained.
        run: folder of the results.
        fabric: launched.
        samples: training and held-out part together.
        skipped: names of log files that could not be used.
        wanted: whether a signal asked to stop.
        console: where progress is shown.

    Raises:
        TrainingError: the run in the folder has another configuration or other logs.
        CheckpointError: its state is damaged.
    """

    def __init__(
        self,
        job: Job,
        run: Run,
        fabric: lightning_fabric.Fabric,
        samples: Samples,
        skipped: tuple[str, ...],
        wanted: Interruption,
        console: Console,
    ) -> None:
        self.job, self.run, self.fabric, self.skipped, self.console = job, run, fabric, skipped, console
        self.samples = samples
        configuration = job.configuration
        split = SPLITS[configuration.data.split]
        training, unseen = split(samples, configuration.data.held_out, configuration.data.seed)
        training = at_most(training, configuration.data.most)
        model_configuration = configuration.model.model_copy(update={"modalities": fitted(training)})
        begun = run.state.exists()
        self.position = Position(
            command=recipe(job.command, None if begun else job.init),
            arithmetic=job.precision,
            configuration=configuration,
            model=model_configuration,
            data=_digest(training, unseen),
        )
        if begun:
            stored, tensors = load_state(run.state)
            self.position = continued(run.folder, stored, self.position)
        modalities = self.position.model.modalities
        self.unseen = Samples(**{**vars(unseen), "modalities": modalities})
        # The best epoch is chosen on the calibration part, so that the test part has no say in anything.
        self.choosing = calibration_and_test(self.unseen)[0] if len(self.unseen) > 1 else self.unseen
        training = Samples(**{**vars(training), "modalities": modalities})
        self.mean: Batch = training.mean()
        # Parts of one trajectory on both sides: what is held out is then not named, but found again by the split.
        self._shared = bool(set(training.held) & set(unseen.held))
        torch.manual_seed(configuration.training.seed)
        self.model = MultimodalVAE(self.position.model)
        if job.init is not None:
            unused = f"{job.init}: is not looked at, because the run in {run.folder} goes on from its own weights"
            # Only the first of the processes that torchrun starts prints.
            told = unused if begun else initialise(self.model, job.init).told(job.init)
            console.print(told, markup=False, soft_wrap=True)
        self.loop = Loop(configuration, self.model, training, fabric, wanted, console)
        self.writer = StateWriter(background=fabric.device.type == "cuda")
        if begun:
            self.loop.restore(tensors)
            self.loop.epoch, self.loop.step = self.position.epoch, self.position.step
            if self.position.precision:
                fabric._precision.load_state_dict(self.position.precision)

    def fit(self) -> Run:
        """Train to the end.

        Raises:
            TrainingError: the loss or the weights are no longer finite.
            Interrupted: a signal asked for it; the state was saved first.
            OSError: the run cannot be written.
        """
        self._begin()
        board = TensorBoard(self.run.tensorboard, self.loop.epoch) if self.fabric.is_global_zero else None
        try:
            while self.loop.epoch < self.job.configuration.training.epochs and not self._patience_is_over():
                began = time.monotonic()
                for _ in self.loop.run_epoch():
                    self._save()
                self._end_epoch(self.loop.finish_epoch(), time.monotonic() - began, board)
            self.writer.wait()
        except KeyboardInterrupt:
            self.writer.wait()
            self._save_model(self.run.last, None)
            raise Interrupted(self.loop.epoch, self.run.last) from None
        finally:
            if board is not None:
                board.close()
        self._conclude()
        return self.run

    def _begin(self) -> None:
        """Write the run's files before the first step, so that a folder that cannot hold them is found out now."""
        if self.fabric.is_global_zero:
            content = yaml.safe_dump(self.job.configuration.model_dump(mode="json"), sort_keys=False)
            write_atomically(self.run.configuration, content.encode())
            self._write_metrics()
        self._save()
        self.writer.wait()
        where = f"{self.fabric.world_size} × {self.fabric.device}" if self.fabric.world_size > 1 else self.fabric.device
        training, unseen, split = self.loop.samples, self.unseen, self.job.configuration.data.split
        # A data set of pictures has no trajectories.
        of, of_unseen = "", ""
        if len(training.held) > 1:
            of, of_unseen = f" of {len(training.held)} trajectories", f" of {len(unseen.held)}"
        self.console.print(
            f"{len(training)} training samples{of}, {len(unseen)} held-out{of_unseen}, on {where}"
            + ("; held out are blocks of time" if self._shared and split in ("trajectory", "time") else "")
            + (f"; {len(self.skipped)} files left out" if self.skipped else "")
            + (f"; going on after epoch {self.loop.epoch}" if self.loop.epoch or self.loop.step else "")
        )

    def _end_epoch(self, means: dict[str, float], seconds: float, board: TensorBoard | None) -> None:
        # The last latent epoch is judged, too.
        if self.loop.learning == "memory" and self.loop.epoch % _JUDGED_LATENT_EPOCHS:
            self.console.print(f"epoch {self.loop.epoch:3d}  {_told(means)}{self._pace()}", soft_wrap=True)
            self._save()
            return
        if self.fabric.is_global_zero:
            subsets = few_subsets(self.model.names)
            figures = evaluate(self.model, self.choosing, self.mean, subsets, most=_EPOCH_SAMPLES)
            score = float(np.mean([nmse for row in figures.subsets for nmse in row.nmse.values()]))
            off = self._outages()
            if off is not None:
                score = 0.5 * (score + off.score)
            if not np.isfinite(score):
                raise TrainingError(f"epoch {self.loop.epoch}: expected finite held-out figures, found {score}")
            if self.position.best is None or score < self.position.best:
                self.position.best, self.position.best_epoch = score, self.loop.epoch
                self._save_model(self.run.best, None)
            self.position.lines.append(
                {
                    "epoch": self.loop.epoch,
                    "training": means,
                    "held_out": [row.model_dump() for row in figures.subsets],
                    **({} if off is None else {"outages": off.model_dump()}),
                    "score": score,
                    "learning_rate": self.loop.learning_rate(self.loop.epoch),
                    "seconds": round(seconds, 3),
                    "samples_per_second": round(self.loop.speed, 1),
                }
            )
            self._save_model(self.run.last, None)
            self._report(figures, score, means)
        self.position = self.fabric.broadcast(self.position)
        # Last, since only the state says that the epoch is over: the other files are never older than it.
        self._save()
        if board is not None:
            self._write_metrics()
            scalars = epoch_scalars(self.position.lines[-1])
            board.write(self.loop.epoch, scalars, tiled(picture_rows(self.model, self.unseen)))

    def _outages(self) -> Outages | None:
        """Return the figures of outages on some held-out trajectories; None of a model or of logs that have none."""
        if self.model.memory is None:
            return None
        some = np.unique(self.unseen.trajectory)[:_EPOCH_TRAJECTORIES]
        samples = self.unseen.select(np.flatnonzero(np.isin(self.unseen.trajectory, some)))
        self.model.eval()
        try:
            return outages(self.model, samples, self.mean)
        except LogError:
            return None

    def _report(self, figures: Evaluation, score: float, means: dict[str, float]) -> None:
        full = "  ".join(f"{name} {nmse:.3f}" for name, nmse in figures.of(*self.model.names).nmse.items())
        self.console.print(
            f"epoch {self.loop.epoch:3d}  {_told(means)}  held-out NMSE: {full}  all {score:.3f}{self._pace()}",
            soft_wrap=True,
        )

    def _pace(self) -> str:
        samples, speed = len(self.loop.samples), self.loop.speed
        left = (self.job.configuration.training.epochs - self.loop.epoch) * samples
        # A run that is resumed after the last step of an epoch has timed no step yet.
        return f"  ({speed:.0f} samples/s, {left / speed / 60:.0f} min left)" if speed else ""

    def _conclude(self) -> None:
        """Judge the best epoch on every held-out sample; write the figures into its checkpoint.

        Raises:
            Interrupted: a signal asked for it.
        """
        try:
            self.loop.interruption.at_once()
            self._judge()
        except KeyboardInterrupt:
            raise Interrupted(self.loop.epoch, self.run.best, judging=True) from None

    def _judge(self) -> None:
        if self.fabric.is_global_zero:
            told = told_subsets(self.model.names)
            self.console.print(f"judging the best epoch on {len(self.unseen)} held-out samples, {told}", soft_wrap=True)
            best = checkpoint.load(self.run.best)
            self.model.load_state_dict(best.model.state_dict())
            metrics = evaluate(self.model, self.unseen, self.mean, draws=1)
            calibration = calibrate(self.model, self.unseen) if len(self.unseen) > 1 else None
            self._save_model(self.run.best, metrics, calibration)
            if calibration is not None:
                board = TensorBoard(self.run.tensorboard, self.loop.epoch)
                board.write(self.loop.epoch, calibration_scalars(calibration), None)
                board.close()
            write_card(self.run, self.model, self.unseen)
        self.fabric.barrier()

    def _patience_is_over(self) -> bool:
        patience = self.job.configuration.training.patience
        over = patience is not None and self.loop.epoch - self.position.best_epoch >= patience
        if over:
            self.console.print(f"no better held-out figures for {patience} epochs: done after {self.loop.epoch}")
        return over

    def _save(self) -> None:
        """Save the whole state; `last` and `metrics` are written from it."""
        tensors = self.loop.tensors()
        if not self.fabric.is_global_zero:
            return
        self.position.epoch, self.position.step = self.loop.epoch, self.loop.step
        self.position.precision = self.fabric._precision.state_dict()
        self.writer.save(self.run.state, self.position, tensors)

    def _save_model(self, path: Path, metrics: Evaluation | None, calibration: Calibration | None = None) -> None:
        if not self.fabric.is_global_zero:
            return
        training, unseen = self.loop.samples, self.unseen
        record = checkpoint.TrainingRecord(
            data=self.samples.told(self.job.data),
            commands=tuple(self.position.command.splitlines()),
            configuration=self.job.configuration,
            epochs=self.loop.epoch,
            samples=len(training),
            held_out=unseen.held if not self._shared else (),
            skipped=self.skipped,
            joints=logged_joints(self.job.data, self.job.configuration),
        )
        checkpoint.save(path, self.model, self.mean, record, metrics, calibration)

    def _write_metrics(self) -> None:
        lines = "".join(json.dumps(line) + "\n" for line in self.position.lines)
        write_atomically(self.run.metrics, lines.encode())


def _told(means: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.1f}" for name, value in means.items() if " from " not in name)


def _digest(training: Samples, unseen: Samples) -> str:
    """Return a digest of the samples, in order, and of their split: logs with the same digest train the same run."""
    digest = hashlib.sha256()
    for samples in (training, unseen):
        for values in (samples.trajectory, samples.step, samples.available, samples.contact, samples.pose):
            digest.update(np.ascontiguousarray(values).tobytes())
        digest.update("\n".join(samples.names).encode())
    return digest.hexdigest()

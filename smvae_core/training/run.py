"""A run: the folder that training fills, the job that fills it, and the list of runs in a folder."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from smvae_core.checkpoint import read_metadata
from smvae_core.configuration import Configuration
from smvae_core.device import Device
from smvae_core.errors import SMVAEError
from smvae_core.files import writing_to
from smvae_core.scores import with_old_names

Precision = Literal["32", "tf32", "bf16-mixed", "16-mixed"]
"""Arithmetic of the networks: `32` is 32-bit floats without TF32, `tf32` allows TF32 on a GPU."""


class TrainingError(SMVAEError):
    """A run that cannot start or go on."""


class RunError(SMVAEError):
    """A folder that is not a run, or that another process uses."""


@dataclass(frozen=True)
class Job:
    """The description of one training.

    Attributes:
        data: folder of logs.
        out: folder of the run.
        configuration: model, objective, data and training settings.
        command: the shell command that was called; it is kept in the checkpoint.
        device: of each process.
        precision: of the networks; the bound stays in 32 bits.
        cache: folder for the cache; None puts it beside the logs.
        skip_bad: leave out log files that cannot be used, instead of ending.
        resume: continue the run in `out`, if there is one.
        init: a checkpoint whose weights are taken where they fit; a run that is continued does not look at it.
    """

    data: Path
    out: Path
    configuration: Configuration
    command: str
    device: Device = "auto"
    precision: Precision = "32"
    cache: Path | None = None
    skip_bad: bool = False
    resume: bool = False
    init: Path | None = None


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
    def state(self) -> Path:
        """Everything that `--resume` needs."""
        return self.folder / "state.safetensors"

    @property
    def metrics(self) -> Path:
        """Figures by epoch: one JSON object a line."""
        return self.folder / "metrics.jsonl"

    @property
    def configuration(self) -> Path:
        """The whole configuration: training with it gives the same run."""
        return self.folder / "configuration.yaml"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.folder / "tensorboard"

    @property
    def card(self) -> Path:
        """The model card: what was trained, on what, with which figures."""
        return self.folder / "README.md"

    @property
    def begun(self) -> bool:
        """Whether the folder holds anything that training would overwrite."""
        return any(path.exists() for path in (self.state, self.best, self.last))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder; remove what a killed process left half written.

        Raises:
            RunError: another process trains there.
            FolderError: the folder cannot be written to.
        """
        made = not self.folder.exists()
        with writing_to(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / ".lock").open("w")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(f"{self.folder}: another process trains in this folder") from None
            for path in (self.best, self.last, self.state, self.metrics, self.configuration, self.card):
                for part in self.folder.glob(f".{path.name}.*"):
                    part.unlink()
            try:
                yield
            finally:
                # Nothing was begun, as for data that cannot be read.
                with suppress(OSError):
                    if made and [path.name for path in self.folder.iterdir()] == [".lock"]:
                        (self.folder / ".lock").unlink()
                        self.folder.rmdir()


class Summary(NamedTuple):
    """One line of the list of runs.

    Attributes:
        name: path of the run's folder in the folder that was searched.
        epochs: finished.
        planned: epochs of its configuration.
        finished: whether the best epoch was judged on all subsets.
        samples: in the training part.
        score: mean NMSE of the best epoch over the modalities and over the subsets that every epoch is judged by: all
            modalities, all but one, and single ones.
        full: NMSE by modality, predicted from everything, of the best epoch.
    """

    name: str
    epochs: int
    planned: int
    finished: bool
    samples: int
    score: float
    full: dict[str, float]


class FoundRuns(NamedTuple):
    """The runs in a folder, the best first, and the reasons why others could not be read."""

    runs: list[Summary]
    bad: list[str]


def find_runs(folder: Path) -> FoundRuns:
    """Return all runs in a folder, at any depth.

    Raises:
        RunError: no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; expected one with runs of smvae train")
    found: list[Summary] = []
    bad: list[str] = []
    # os.walk passes over folders that vanish meanwhile or may not be read.
    for parent, _, files in sorted(os.walk(folder)):
        run = Run(Path(parent))
        if run.best.name not in files:
            continue
        name = str(run.folder.relative_to(folder)) if run.folder != folder else run.folder.name
        try:
            summary = _summary(run, name)
        except SMVAEError as error:
            bad.append(str(error))
        else:
            found += [summary] if summary else []
    if not found and not bad:
        raise RunError(f"{folder}: expected runs of smvae train with a whole epoch, found none")
    return FoundRuns(sorted(found, key=lambda summary: summary.score), bad)


def best_of(path: Path) -> Path:
    """Return the best checkpoint of a run, if `path` is a folder; any other path as it is."""
    return Run(path).best if path.is_dir() else path


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the epochs of a run, oldest first; none where there is no such file.

    Raises:
        RunError: a line is not JSON.
    """
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except json.JSONDecodeError as error:
        raise RunError(f"{path}: expected a JSON object a line, found {error}") from None


def _summary(run: Run, name: str) -> Summary | None:
    """Return the run's line; None where no whole epoch was trained."""
    metadata = read_metadata(run.best)
    record, lines = metadata.training, read_metrics(run.metrics)
    if record is None or not lines:
        return None
    best = min(lines, key=lambda line: line["score"])
    names = {modality.name for modality in metadata.model.modalities}
    full = next(row for row in best["held_out"] if set(row["subset"]) == names)
    return Summary(
        name=name,
        epochs=lines[-1]["epoch"],
        planned=record.configuration.training.epochs,
        finished=metadata.metrics is not None,
        samples=record.samples,
        score=best["score"],
        full=with_old_names(full)["nmse"],
    )

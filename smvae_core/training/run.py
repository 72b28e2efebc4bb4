"""A run is a folder: what is in it, who may write to it, and how far it got."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from smvae_core.configuration import Configuration
from smvae_core.device import Device
from smvae_core.errors import SMVAEError
from smvae_core.files import writing_to
from smvae_core.scores import with_old_names


class RunError(SMVAEError):
    """A folder that is no run, or one that cannot be used now."""


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
        """All that is needed to go on as if nothing had happened."""
        return self.folder / "state.safetensors"

    @property
    def metrics(self) -> Path:
        """One JSON object a line and an epoch."""
        return self.folder / "metrics.jsonl"

    @property
    def configuration(self) -> Path:
        """The configuration, whole: training with it gives the same run."""
        return self.folder / "configuration.yaml"

    @property
    def board(self) -> Path:
        """Folder for TensorBoard."""
        return self.folder / "tensorboard"

    @property
    def card(self) -> Path:
        """What was trained, on what, with which figures; to be read by people."""
        return self.folder / "README.md"

    @property
    def begun(self) -> bool:
        """Whether there is anything in it that training would overwrite."""
        return any(path.exists() for path in (self.state, self.best, self.last))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else trains in this folder meanwhile; what a killed process left half written is removed.

        Raises:
            RunError: another process trains there, or the folder cannot be written to.
        """
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
            yield


def best_of(path: Path) -> Path:
    """The checkpoint to use of a run, whose folder is named; any other path as it is."""
    return Run(path).best if path.is_dir() else path


class Summary(NamedTuple):
    """One line of the list of runs.

    Attributes:
        epochs: finished.
        planned: by its configuration.
        finished: it has been concluded, with figures for all subsets.
        samples: in the training part.
        score: mean NMSE over modalities and the subsets that an epoch is judged by (all, all but one and one modality),
            of the best epoch.
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
    """The runs in a folder, the best first, and why others could not be read."""

    runs: list[Summary]
    bad: list[str]


def find_runs(folder: Path) -> FoundRuns:
    """All runs in a folder, at any depth.

    Raises:
        RunError: no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; expected one with runs of smvae train")
    found, bad = [], []
    # os.walk passes over folders that vanish or may not be read, which a search of a busy disk meets.
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


def _summary(run: Run, name: str) -> Summary | None:
    """Its line; None where no whole epoch was trained."""
    from smvae_core.checkpoint import read_metadata

    metadata = read_metadata(run.best)
    record, lines = metadata.training, read_metrics(run.metrics)
    if record is None or not lines:
        return None
    best = min(lines, key=lambda line: line["score"])
    names = {modality.name for modality in metadata.model.modalities}
    return Summary(
        name=name,
        epochs=lines[-1]["epoch"],
        planned=record.configuration.training.epochs,
        finished=metadata.metrics is not None,
        samples=record.samples,
        score=best["score"],
        full=next(with_old_names(row)["nmse"] for row in best["held_out"] if set(row["subset"]) == names),
    )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The epochs of a run, oldest first; none where there is no such file.

    Raises:
        RunError: a line is not JSON.
    """
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except json.JSONDecodeError as error:
        raise RunError(f"{path}: expected a JSON object a line, found {error}") from None


Precision = Literal["32", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class Job:
    """What is asked for.

    Attributes:
        data: folder of logs.
        out: folder of the run.
        configuration: of the run.
        command: how it was called, kept in the checkpoint.
        device: of each process.
        precision: of the networks.
        cache: folder for the cache; None puts it beside the logs.
        skip_bad: go on without log files that cannot be used.
        resume: go on with the run in `out`, if there is one.
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

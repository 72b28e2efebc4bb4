"""The state of a run: everything that resuming needs, in one file.

Weights, optimiser and position are in the same safetensors file and are replaced by one rename, so after a crash they
belong to the same step. No state of random generators is kept: everything random in a step is drawn from (seed, epoch,
step) alone.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from smvae_core.checkpoint import CheckpointError
from smvae_core.configuration import Configuration
from smvae_core.errors import explain
from smvae_core.files import write_atomically
from smvae_core.model.vae import ModelConfiguration
from smvae_core.training.run import TrainingError

_KEY = "smvae_state"
FORMAT = 1


class Position(BaseModel):
    """The position of a run.

    Attributes:
        format: of the state file.
        command: the shell command of the run; before it those of the checkpoint that it started from, after it one
            for each resume with other epochs or another precision. One a line, with a comment where it was stopped.
        arithmetic: the precision of the networks; None in states of earlier versions.
        configuration: of the run.
        model: with scales fitted on the training part.
        data: digest of the samples and their split.
        epoch: finished epochs.
        step: finished steps of the epoch that follows.
        best: score of the best epoch; None before the first.
        best_epoch: its number.
        precision: state of the precision: under 16-mixed, the scale of the gradients.
        lines: of the metrics, one an epoch.
    """

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    command: str
    arithmetic: str | None = None
    configuration: Configuration
    model: ModelConfiguration
    data: str
    epoch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int = 0
    precision: dict[str, Any] = {}
    lines: list[dict[str, Any]] = []


def save_state(path: Path, position: Position, tensors: dict[str, Tensor]) -> None:
    """Write the state atomically.

    Raises:
        OSError: the file cannot be written; the old state stays.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, to_bytes(whole, metadata={_KEY: position.model_dump_json()}))


class StateWriter:
    """Writes states one after the other.

    Args:
        background: return from `save` before the file is written. A GPU then goes on training while its tensors are
            copied to the host and written.
    """

    def __init__(self, background: bool) -> None:
        self._thread = ThreadPoolExecutor(1, "state") if background else None
        self._writing: Future[None] | None = None

    def save(self, path: Path, position: Position, tensors: dict[str, Tensor]) -> None:
        """Write the tensors as they are now, after the state before is written.

        Raises:
            TrainingError: a tensor is not finite, of this state or, in the background, of the one before.
            OSError: this file cannot be written or, in the background, the one before could not.
        """
        if self._thread is None:
            _save_finite(path, position, tensors)
            return
        self.wait()
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self._writing = self._thread.submit(_save_finite, path, position.model_copy(deep=True), copies)

    def wait(self) -> None:
        """Wait until the last state is written.

        Raises:
            TrainingError, OSError: as `save`.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def _save_finite(path: Path, position: Position, tensors: dict[str, Tensor]) -> None:
    finite = [tensor.isfinite().all() for tensor in tensors.values()]
    # One question for all tensors of a device: a GPU is waited for once.
    by_device = ([x for x in finite if x.device == device] for device in {x.device for x in finite})
    if not all(bool(torch.stack(of_device).all()) for of_device in by_device):
        raise TrainingError(
            f"epoch {position.epoch + 1}, batch {position.step}: expected finite weights, found NaN or infinity; "
            "the last good state is kept; a lower training.learning_rate or training.clip may help"
        )
    save_state(path, position, tensors)


def load_state(path: Path) -> tuple[Position, dict[str, Tensor]]:
    """Return the position and the tensors that `save_state` wrote.

    Raises:
        CheckpointError: missing, damaged or foreign.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; the run cannot be resumed without it")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY, "{}")
            position = Position.model_validate_json(header)
            return position, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: expected the state of a run, found a damaged or foreign file ({error})"
        ) from None
    except ValidationError as error:
        raise CheckpointError(f"{path}: expected the state of a run, found {explain(error)}") from None


def continued(folder: Path, stored: Position, wanted: Position) -> Position:
    """Return the stored position, with the wanted epochs, if it belongs to the wanted run.

    Raises:
        TrainingError: other logs, or another configuration; more or fewer epochs are allowed.
    """
    before, after = (_flat(p.configuration.model_dump(mode="json")) for p in (stored, wanted))
    differing = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
    if differing := [key for key in differing if key != "training.epochs"]:
        told = ", ".join(f"{key} {before.get(key)!r} (now {after.get(key)!r})" for key in differing)
        raise TrainingError(f"{folder}: expected the configuration that the run began with, found changed: {told}")
    if stored.data != wanted.data:
        raise TrainingError(f"{folder}: expected the logs that the run began with, found others")
    commands = stored.command.splitlines()
    # The schedule and Adam's moments depend on all commands, so training it again needs all of them.
    if stored.configuration != wanted.configuration or stored.arithmetic not in (None, wanted.arithmetic):
        commands = [*commands[:-1], commands[-1] + _stopped(stored), wanted.command.splitlines()[-1]]
    return stored.model_copy(
        update={
            "configuration": wanted.configuration,
            "command": "\n".join(dict.fromkeys(commands)),
            "arithmetic": wanted.arithmetic,
        }
    )


def _stopped(position: Position) -> str:
    """Return the comment of a command that did not come to its end: to train the run again, stop it there as well."""
    training = position.configuration.training
    patient = training.patience is None or position.epoch - position.best_epoch < training.patience
    if position.epoch >= training.epochs or not patient:
        return ""
    if not position.epoch + position.step:
        return "  # stopped before the first step"
    steps = f" and {position.step} steps" if position.step else ""
    return f"  # stopped after {position.epoch} epochs{steps}"


def _flat(content: object, key: str = "") -> dict[str, object]:
    if isinstance(content, dict) and content:
        return {
            k: v for name, value in content.items() for k, v in _flat(value, f"{key}.{name}" if key else name).items()
        }
    return {key: content}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimiser by name: `optimizer.<parameter>.<key>`."""
    states = optimizer.state_dict()["state"]
    return {f"optimizer.{n}.{key}": value for n, state in states.items() for key, value in state.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load what `optimizer_tensors` returned; learning rate and other settings stay as they are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".")
            like = parameters[int(number)]
            # The fused Adam assumes the memory format of the parameter.
            laid_out = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor.clone()
            states.setdefault(int(number), {})[key] = laid_out
    optimizer.load_state_dict(optimizer.state_dict() | {"state": states})


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of the samples in an epoch, (count,)."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def step_generator(seed: int, epoch: int, step: int) -> torch.Generator:
    """Return the generator of everything that is random in one step."""
    words: Iterator[int] = iter(np.random.SeedSequence([seed, epoch, step]).generate_state(2).tolist())
    return torch.Generator().manual_seed(next(words) << 32 | next(words))

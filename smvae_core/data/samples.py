"""Logs as one table of samples, in memory, ready for the model.

Step t gives one sample: image and depth of step t, the force samples up to step t, and action t + 1, the command that
follows the observation (as the public Vision&Touch loaders pair them). The last step before a gap has no such command:
its action is absent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from smvae_core.data.vision_touch import LogError, Trajectory, read_part
from smvae_core.modality import Modality, ModalityError
from smvae_core.model import Batch
from smvae_core.preprocessing import Vector

_FOLLOWING = "action"


@dataclass(frozen=True)
class Samples:
    """Samples in model units.

    Attributes:
        modalities: columns of `available`.
        arrays: by modality (N, *shape): uint8 of 255 for RGB, float16 for depth, float32 otherwise.
        available: (N, M), bool.
        contact: (N,), bool, whether the peg touches during the next step.
        trajectory: (N,), int, index into `names`.
        names: trajectories.
    """

    modalities: tuple[Modality, ...]
    arrays: dict[str, np.ndarray]
    available: np.ndarray
    contact: np.ndarray
    trajectory: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.available)

    def batch(self, index: np.ndarray) -> tuple[Batch, torch.Tensor]:
        """The rows `index` as a batch (float32) and its availability mask (B, M)."""
        return {name: _decompressed(array[index]) for name, array in self.arrays.items()}, torch.from_numpy(
            self.available[index]
        )

    def mean(self) -> Batch:
        """The mean of each modality over the samples that have it, (*shape), float32: the trivial prediction."""
        means = {}
        for column, (name, array) in enumerate(self.arrays.items()):
            rows = np.flatnonzero(self.available[:, column])
            total = sum(_decompressed(array[chunk]).double().sum(dim=0) for chunk in np.array_split(rows, 64))
            means[name] = (total / max(len(rows), 1)).float()
        return means


def split_by_trajectory(
    trajectories: Sequence[Trajectory], held_out: float, seed: int
) -> tuple[list[Trajectory], list[Trajectory]]:
    """A training part and a held-out part; no trajectory is in both.

    Raises:
        LogError: a part would be empty.
    """
    order = np.random.default_rng(seed).permutation(len(trajectories))
    count = round(held_out * len(trajectories))
    if not 0 < count < len(trajectories):
        raise LogError(
            f"expected enough trajectories to hold out {held_out:.0%} of them, found {len(trajectories)}; "
            "record more or change data.held_out"
        )
    return [trajectories[i] for i in sorted(order[count:])], [trajectories[i] for i in sorted(order[:count])]


def fit_modalities(modalities: Sequence[Modality], training: Sequence[Trajectory]) -> tuple[Modality, ...]:
    """The modalities with open scales measured on the training part.

    Raises:
        LogError: a file cannot be read.
    """
    fitted = []
    for modality in modalities:
        if isinstance(modality.preprocessing, Vector):
            values = np.concatenate([trajectory.read([modality.source])[modality.source] for trajectory in training])
            modality = modality.model_copy(update={"preprocessing": modality.preprocessing.fitted(values)})
        fitted.append(modality)
    return tuple(fitted)


def read_samples(
    trajectories: Sequence[Trajectory],
    modalities: Sequence[Modality],
    on_part: Callable[[Path], None] = lambda path: None,
) -> Samples:
    """Read and preprocess whole trajectories.

    Args:
        on_part: called after each file, for progress.

    Raises:
        LogError: a file is damaged or does not fit a modality; the sentence names it.
    """
    columns: dict[str, list[np.ndarray]] = {modality.name: [] for modality in modalities}
    available, contact, owner = [], [], []
    for index, trajectory in enumerate(trajectories):
        for run in trajectory.runs:
            parts = [_preprocessed(path, modalities, on_part) for path in run]
            touching = np.concatenate([part.pop("contact") for part in parts])
            joined = {name: np.concatenate([part[name] for part in parts]) for name in columns}
            present = np.ones((len(touching), len(columns)), bool)
            for column, modality in enumerate(modalities):
                values = joined[modality.name]
                if modality.source == _FOLLOWING:
                    values = np.concatenate([values[1:], values[-1:]])
                    present[-1, column] = False
                columns[modality.name].append(values)
            available.append(present)
            contact.append(np.append(touching[1:], touching[-1]))
            owner.append(np.full(len(touching), index))
    return Samples(
        modalities=tuple(modalities),
        arrays={name: np.concatenate(values) for name, values in columns.items()},
        available=np.concatenate(available),
        contact=np.concatenate(contact),
        trajectory=np.concatenate(owner),
        names=tuple(trajectory.name for trajectory in trajectories),
    )


def _preprocessed(path: Path, modalities: Sequence[Modality], on_part: Callable[[Path], None]) -> dict[str, np.ndarray]:
    raw = read_part(path, [*(modality.source for modality in modalities), "contact"])
    columns = {"contact": raw["contact"].reshape(len(raw["contact"]), -1).any(axis=1)}
    for modality in modalities:
        try:
            columns[modality.name] = np.stack([_compressed(modality, step) for step in raw[modality.source]])
        except ModalityError as error:
            raise LogError(f"{path}: key '{modality.source}': {error}") from None
    on_part(path)
    return columns


def _compressed(modality: Modality, raw: np.ndarray) -> np.ndarray:
    x = modality.to_model(raw)
    if modality.preprocessing.kind == "rgb":
        return np.rint(x * 255.0).astype(np.uint8)
    return x.astype(np.float16) if modality.preprocessing.kind == "depth" else x


def _decompressed(array: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    return tensor.float() / 255.0 if tensor.dtype == torch.uint8 else tensor.float()

"""Samples for the model, as one table.

Step t gives one sample: the entries of step t, and for modalities that pair with the next step the entries of step
t + 1. In Vision&Touch logs the action is such a modality: entry t + 1 is the command that follows observation t (the
public loaders pair them so). The last step before a gap in time has no such entry, so the modality is absent.
If all files of a trajectory lack a key, its samples train without that modality.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from smvae_core.data.columns import CONTACT, POSE, VALID, Chunk, Part, columns, read_columns
from smvae_core.data.formats.protocol import LogError, Trajectory
from smvae_core.modality import Modality
from smvae_core.model.vae import Batch
from smvae_core.preprocessing import Vector

# So many of the files that share a reason are named.
_NAMED = 3


class BadLogs(LogError):
    """Files that cannot be used; the message has a line for each reason."""

    def __init__(self, bad: Mapping[Path, str], total: int) -> None:
        lines = "".join(f"\n  {reason}" for reason in reasons(bad))
        super().__init__(
            f"{len(bad)} of {total} files cannot be used (--skip-bad goes on without them); expected whole "
            f"ones, found:{lines}"
        )


def reasons(bad: Mapping[Path, str]) -> list[str]:
    """Return one sentence for each reason. Thousands of files may share one.

    Args:
        bad: the sentence for each file, which begins with the path of the file.
    """
    files: dict[str, list[Path]] = {}
    for path, sentence in sorted(bad.items()):
        files.setdefault(sentence.removeprefix(f"{path}: "), []).append(path)
    return [
        bad[paths[0]]
        if len(paths) == 1
        else f"{len(paths):,} files ({', '.join(map(str, paths[:_NAMED]))}{', …' * (len(paths) > _NAMED)}): {reason}"
        for reason, paths in files.items()
    ]


@dataclass(frozen=True)
class Samples:
    """N samples over a table of R steps, which may be memory-mapped.

    Attributes:
        modalities: the columns of `available`. Offsets and scales that they leave open are measured by `fitted`.
        arrays: the table, by modality (R, *shape): uint8 from 0 to 255 for RGB and grey, float16 for depth, float32
            otherwise; vectors in their own units. Sample i is row `rows[i]`, or row `following[i]` for modalities
            that pair with the next step.
        rows: (N,), int64.
        following: (N,), int64, row of the next step, or of the step itself before a gap in time.
        previous: (N,), int64, row of the step before, or -1 after a gap in time.
        available: (N, M), bool. A sample that carries too little information (`Modality.min_valid`) is not available.
        contact: (N,), float32, 1 if the peg touches during the next step, else 0; NaN if unknown.
        pose: (N, 4), float32, x y z (m), yaw (rad) of the next step; NaN if unknown.
        trajectory: (N,), int, index into `names`.
        step: (N,), int, number of the step in its trajectory.
        names: the names of the trajectories.
    """

    modalities: tuple[Modality, ...]
    arrays: dict[str, np.ndarray]
    rows: np.ndarray
    following: np.ndarray
    previous: np.ndarray
    available: np.ndarray
    contact: np.ndarray
    pose: np.ndarray
    trajectory: np.ndarray
    step: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.available)

    @property
    def held(self) -> tuple[str, ...]:
        """Names of the trajectories of these samples."""
        return tuple(self.names[i] for i in np.unique(self.trajectory))

    def told(self, data: Path) -> str:
        """Return the description of the data that a checkpoint's `TrainingRecord` holds."""
        return f"{len(self.held)} trajectories, {len(self)} steps, from {data.name}"

    def rows_of(self, modality: Modality) -> np.ndarray:
        """Return the row of each sample in the array of a modality, (N,)."""
        return self.following if modality.follows else self.rows

    def batch(self, index: np.ndarray) -> tuple[Batch, Tensor]:
        """Return the samples `index` as a batch (float32, model units) with its availability mask (B, M)."""
        batch = {
            m.name: model_units(m, torch.from_numpy(self.arrays[m.name][self.rows_of(m)[index]]))
            for m in self.modalities
        }
        return batch, torch.from_numpy(self.available[index])

    def select(self, index: np.ndarray) -> "Samples":
        """Return the samples `index` over the same table."""
        per_sample = ("rows", "following", "previous", "available", "contact", "pose", "trajectory", "step")
        return replace(self, **{key: getattr(self, key)[index] for key in per_sample})

    def mean(self) -> Batch:
        """Return the mean of each modality over the samples that have it, (*shape), float32: the trivial prediction."""
        means = {}
        for column, modality in enumerate(self.modalities):
            rows = np.sort(self.rows_of(modality)[self.available[:, column]])
            total = torch.zeros(modality.shape, dtype=torch.float64)
            for chunk in np.array_split(rows, -(-len(rows) // 512) or 1):
                stored = torch.from_numpy(self.arrays[modality.name][chunk])
                total += model_units(modality, stored).sum(dim=0, dtype=torch.float64)
            means[modality.name] = (total / max(len(rows), 1)).float()
        return means


def model_units(modality: Modality, stored: Tensor) -> Tensor:
    """Convert stored entries (B, *shape) to float32 in model units, on their device."""
    if stored.dtype == torch.uint8:
        # Several times faster than dividing the bytes.
        return stored.float().div_(255.0)
    record = modality.preprocessing
    if isinstance(record, Vector) and record.offset is not None and record.scale is not None:
        return (stored - _constant(record.offset, stored.device)) / _constant(record.scale, stored.device)
    return stored.float()


@lru_cache
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return a tensor that stays on the device; copying it there for every batch would make a GPU wait."""
    return torch.tensor(values, dtype=torch.float32, device=device)


def fitted(samples: Samples) -> tuple[Modality, ...]:
    """Return the modalities with open offsets and scales measured on these samples, the training part.

    Raises:
        LogError: no sample has a modality, so that nothing can be learned about it.
    """
    modalities = []
    for column, modality in enumerate(samples.modalities):
        rows = samples.rows_of(modality)[samples.available[:, column]]
        if not len(rows):
            raise LogError(
                f"expected training logs with key '{modality.source}', found it in none, or nowhere valid; leave "
                f"{modality.name} out of model.modalities or add logs that have it"
            )
        if isinstance(modality.preprocessing, Vector):
            values = samples.arrays[modality.name][rows].astype(np.float64)
            modality = modality.model_copy(update={"preprocessing": modality.preprocessing.fitted(values)})
        modalities.append(modality)
    return tuple(modalities)


def read_samples(
    trajectories: Sequence[Trajectory],
    modalities: Sequence[Modality],
    on_part: Callable[[Path], None] = lambda path: None,
) -> Samples:
    """Read and preprocess whole trajectories into memory.

    Args:
        on_part: called after each file, for progress.

    Raises:
        BadLogs: files are damaged or do not fit a modality.
    """
    parts: dict[Path, Part] = {}
    bad: dict[Path, str] = {}
    paths = [path for trajectory in trajectories for _, path in trajectory.parts]
    for path in paths:
        try:
            parts[path] = read_columns(path, modalities)
        except LogError as error:
            bad[path] = str(error)
        on_part(path)
    chunks, first = {}, 0
    for path, part in parts.items():
        chunks[path] = Chunk(first, part.steps, part.lacking)
        first += part.steps
    if bad := bad | inconsistent(trajectories, chunks):
        raise BadLogs(bad, len(paths))
    empty = {c.name: np.zeros((0, *c.shape), c.dtype) for c in columns(modalities)}
    arrays = {
        name: np.concatenate(
            [none, *(p.columns.get(name, np.zeros((p.steps, *none.shape[1:]), none.dtype)) for p in parts.values())]
        )
        for name, none in empty.items()
    }
    return samples_of(trajectories, modalities, chunks, arrays)


def inconsistent(trajectories: Sequence[Trajectory], chunks: Mapping[Path, Chunk]) -> dict[Path, str]:
    """Return the files that lack a modality which other files of their trajectory have, each with a sentence."""
    bad = {}
    for trajectory in trajectories:
        found = {path: chunks[path].lacking for _, path in trajectory.parts if path in chunks}
        for path, lacking in found.items():
            if missing := lacking - frozenset.intersection(*found.values()):
                bad[path] = (
                    f"{path}: expected what other files of trajectory {trajectory.name} have, found no data of "
                    f"{', '.join(sorted(missing))}"
                )
    return bad


def samples_of(
    trajectories: Sequence[Trajectory],
    modalities: Sequence[Modality],
    chunks: Mapping[Path, Chunk],
    arrays: Mapping[str, np.ndarray],
) -> Samples:
    """Return the samples of a table. A file without a chunk is left out and counts as a gap in time.

    Args:
        chunks: the rows of each file.
        arrays: the table, by the names of `columns(modalities)`.
    """
    per_sample = ("rows", "following", "previous", "available", "owner", "step")
    pieces: dict[str, list[np.ndarray]] = {key: [] for key in per_sample}
    for index, trajectory in enumerate(trajectories):
        steps = 0
        kept = Trajectory(trajectory.name, tuple((n, path) for n, path in trajectory.parts if path in chunks))
        for run in kept.runs:
            spans = [chunks[path] for path in run]
            rows = np.concatenate([np.arange(c.first, c.first + c.steps) for c in spans])
            present = np.array([[m.name not in c.lacking for m in modalities] for c in spans for _ in range(c.steps)])
            present[-1, [m.follows for m in modalities]] = False
            pieces["rows"].append(rows)
            pieces["following"].append(np.append(rows[1:], rows[-1]))
            pieces["previous"].append(np.insert(rows[:-1], 0, -1))
            pieces["available"].append(present)
            pieces["owner"].append(np.full(len(rows), index))
            pieces["step"].append(np.arange(steps, steps + len(rows)))
            steps += len(rows)
    joined = {key: np.concatenate([np.zeros(0, int), *values]) for key, values in pieces.items() if key != "available"}
    available = np.concatenate([np.zeros((0, len(modalities)), bool), *pieces["available"]])
    for column, modality in enumerate(modalities):
        used = joined["following" if modality.follows else "rows"]
        available[:, column] &= _valid_rows(modality, arrays, column)[used]
    ends = (joined["following"] == joined["rows"])[:, None]
    return Samples(
        modalities=tuple(modalities),
        arrays={m.name: arrays[m.name] for m in modalities},
        rows=joined["rows"],
        following=joined["following"],
        previous=joined["previous"],
        available=available,
        contact=np.where(ends[:, 0], np.float32(np.nan), arrays[CONTACT][joined["following"]]),
        pose=np.where(ends, np.float32(np.nan), arrays[POSE][joined["following"]]),
        trajectory=joined["owner"],
        step=joined["step"],
        names=tuple(trajectory.name for trajectory in trajectories),
    )


def _valid_rows(modality: Modality, arrays: Mapping[str, np.ndarray], column: int) -> np.ndarray:
    """Return which rows of the table carry enough of a modality, (R,), bool."""
    record = modality.preprocessing
    if not isinstance(record, Vector):
        return modality.is_enough(arrays[VALID][:, column])
    if record.offset is None or record.scale is None:
        return np.ones(len(arrays[VALID]), bool)
    return modality.is_valid((arrays[modality.name] - np.array(record.offset)) / np.array(record.scale))

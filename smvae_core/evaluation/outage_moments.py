"""The moments at which outages are judged, and what is known then: posteriors with memory, without, and of memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smvae_core.data.samples import Samples
from smvae_core.data.sequences import runs_of
from smvae_core.model.memory import MemoryState
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.systems.posterior import Posterior

HEALTHY = ("with memory, nothing off", "without memory, nothing off")
WITH, WITHOUT, FORECAST = "with memory", "without memory", "forecast"
_WARM_UP = 2.0
_BETWEEN_STARTS = 2.5
_RUNS_TOGETHER, _ROWS_TOGETHER = 8, 128


@dataclass(frozen=True)
class Outage:
    """The failure of some modalities, and the moments at which it is judged.

    Attributes:
        off: modalities that fail together.
        steps: of the logs, from the last sample before the outage to each moment, ascending.
        spacing: seconds between two steps.
    """

    off: tuple[str, ...]
    steps: list[int]
    spacing: float

    @property
    def least(self) -> int:
        """Steps of a trajectory from which an outage fits into it."""
        return self.begin + self.steps[-1]

    @property
    def begin(self) -> int:
        """Steps before the first outage of a trajectory, in which memory fills."""
        return round(_WARM_UP / self.spacing)


class Moment(NamedTuple):
    """Several outages (rows) of the same age.

    Attributes:
        age: number of the entry of `Outage.steps`.
        batch: what is to be predicted.
        available: what of it there is, (rows, M), bool, whatever is off.
        kept: which modalities are not off, (M,), bool.
        before: the samples before the outages.
        whole: the posterior with nothing off; with memory, if the model has one.
        latents: posteriors by the name of the prediction.
    """

    age: int
    batch: Batch
    available: Tensor
    kept: Tensor
    before: Batch
    whole: Posterior
    latents: dict[str, Posterior]


def moments(model: MultimodalVAE, samples: Samples, outage: Outage) -> Iterator[Moment]:
    """Yield the moments of the outages of all trajectories that are long enough; of each trajectory several.

    Args:
        model: in evaluation mode, called inside `torch.inference_mode`.
        samples: whole trajectories.
    """
    for index in _groups(runs_of(samples), outage.least):
        yield from _of_group(model, samples, outage, index)


def _groups(runs: Sequence[np.ndarray], least: int) -> Iterator[np.ndarray]:
    """Yield the samples of trajectories of the same length, (B, n)."""
    by_length: dict[int, list[np.ndarray]] = {}
    for run in runs:
        if len(run) >= least:
            by_length.setdefault(len(run), []).append(run)
    for same in by_length.values():
        for first in range(0, len(same), _RUNS_TOGETHER):
            yield np.stack(same[first : first + _RUNS_TOGETHER])


def _of_group(model: MultimodalVAE, samples: Samples, outage: Outage, index: np.ndarray) -> Iterator[Moment]:
    device, spacing = next(model.parameters()).device, outage.spacing
    embeddings, available = _embedded(model, samples, index)
    full, states = _healthy(model, embeddings, available, spacing)
    starts = np.arange(outage.begin, index.shape[1] - outage.steps[-1] + 1, max(1, round(_BETWEEN_STARTS / spacing)))
    # One row for each trajectory and start.
    run = np.repeat(np.arange(len(index)), len(starts))
    start = np.tile(starts, len(index))
    kept = ~torch.tensor([name in outage.off for name in model.names], device=device)
    before, _ = samples.batch(index[run, start - 1])
    state = None if states is None else MemoryState(*(x[run, start - 1] for x in states))
    elapsed = torch.full((len(run),), spacing, device=device)
    running = state
    for step in range(1, outage.steps[-1] + 1):
        at = start + step - 1
        mask = available[run, at] & kept
        remembered = None
        if running is not None and model.memory is not None:
            remembered = model.memory.recall(running, elapsed)
        posterior = model.fuse(embeddings[run, at], mask, remembered)
        if running is not None and model.memory is not None:
            running = model.memory.advance(running, elapsed, posterior, mask)
        if step not in outage.steps:
            continue
        whole, latents = Posterior(*(x[run, at] for x in full)), {}
        if state is not None and model.memory is not None:
            nothing = torch.zeros_like(mask)
            forecast = model.fuse(embeddings[run, at], nothing, model.memory.recall(state, step * elapsed))
            latents = {HEALTHY[0]: whole, WITH: posterior, FORECAST: forecast}
        latents[WITHOUT] = model.fuse(embeddings[run, at], mask)
        latents[HEALTHY[1]] = model.fuse(embeddings[run, at], available[run, at])
        batch, here = samples.batch(index[run, at])
        yield Moment(outage.steps.index(step), batch, here, kept, before, whole, latents)


def _embedded(model: MultimodalVAE, samples: Samples, index: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return embeddings (B, n, M, d) and availability (B, n, M) of whole trajectories."""
    device = next(model.parameters()).device
    parts, flat = [], index.reshape(-1)
    for rows in np.array_split(flat, -(-len(flat) // _ROWS_TOGETHER)):
        batch, available = samples.batch(rows)
        parts.append(model.embed({name: x.to(device) for name, x in batch.items()}, available.to(device)))
    available = torch.from_numpy(samples.available[flat]).to(device)
    return torch.cat(parts).unflatten(0, index.shape), available.unflatten(0, index.shape)


def _healthy(
    model: MultimodalVAE, embeddings: Tensor, available: Tensor, spacing: float
) -> tuple[Posterior, tuple[Tensor, Tensor] | None]:
    """Return the posteriors (B, n, L) with nothing off, and hidden and present (B, n, …) after each sample."""
    memory = model.memory
    if memory is None:
        flat = model.fuse(embeddings.flatten(0, 1), available.flatten(0, 1))
        return Posterior(*(x.unflatten(0, available.shape[:2]) for x in flat)), None
    state, elapsed = memory.start(len(embeddings)), torch.full((len(embeddings),), spacing, device=embeddings.device)
    posteriors, states = [], []
    for t in range(embeddings.shape[1]):
        posterior = model.fuse(embeddings[:, t], available[:, t], memory.recall(state, elapsed))
        state = memory.advance(state, elapsed, posterior, available[:, t])
        posteriors.append(posterior)
        states.append(state)
    whole = Posterior(*(torch.stack(x, dim=1) for x in zip(*posteriors)))
    return whole, (torch.stack([s.hidden for s in states], dim=1), torch.stack([s.present for s in states], dim=1))

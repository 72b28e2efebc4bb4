"""The steps of logs and of attempts, as heads are trained on them: embeddings, raw samples and true poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.pose_head import POSE
from smvae_core.data.formats.protocol import Trajectory
from smvae_core.data.formats.vision_touch import read_trajectory
from smvae_core.model.vae import MultimodalVAE
from smvae_core.simulation.scene import SceneLook
from smvae_core.simulation.shapes import BOX_HEIGHT
from smvae_core.subsets import Subset, all_subsets
from smvae_core.systems.posterior import Posterior

_ROWS = 256


@dataclass(frozen=True)
class Steps:
    """The steps of some trajectories.

    Attributes:
        embeddings: of all modalities, (N, M, d).
        raw: by modality, model units, pictures at half their size, (N, numbers).
        arrived: which modalities there are, (N, M), bool; the others are zero.
        truth: the pose at the end of each step and 1 where the peg touched in it, else 0; (N, 5), float32.
        lengths: how many steps each trajectory has, in order.
    """

    embeddings: Tensor
    raw: dict[str, np.ndarray]
    arrived: np.ndarray
    truth: np.ndarray
    lengths: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def starts(self) -> np.ndarray:
        """The first row of each trajectory."""
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).astype(int)


def read_steps(trajectories: Sequence[Trajectory], model: MultimodalVAE) -> Steps:
    """Read every step of logs of the fixed scene."""
    modalities = model.configuration.modalities
    keys = {modality.source for modality in modalities} | {"proprio", "contact"}
    origin = np.array([*SceneLook().hole, BOX_HEIGHT, 0.0])
    made = []
    for trajectory in trajectories:
        columns = read_trajectory(trajectory, keys)
        rows = np.arange(len(columns["proprio"]) - 1)
        arrays = {
            m.name: np.stack([m.to_model(v) for v in columns[m.source][rows + int(m.follows)]]) for m in modalities
        }
        touched = columns["contact"][rows].reshape(len(rows), -1).any(axis=1)
        truth = np.column_stack([columns["proprio"][rows, :POSE] - origin, touched])
        made.append(steps_of(model, arrays, truth, (len(rows),)))
    return joined(made)


def steps_of(
    model: MultimodalVAE,
    arrays: Mapping[str, np.ndarray],
    truth: np.ndarray,
    lengths: Sequence[int],
    arrived: np.ndarray | None = None,
) -> Steps:
    """Return steps of arrays of all modalities in model units, (N, *shape), and truths, (N, 5); None: all arrived."""
    here = np.ones((len(truth), len(model.names)), bool) if arrived is None else arrived
    embeddings = []
    with torch.inference_mode():
        for begin in range(0, len(truth), _ROWS):
            some = slice(begin, begin + _ROWS)
            batch = {name: torch.from_numpy(arrays[name][some]) for name in model.names}
            embeddings.append(model.embed(batch, torch.from_numpy(here[some])))
    raws = {name: numbers(arrays[name]) for name in model.names}
    return Steps(torch.cat(embeddings), raws, here, truth.astype(np.float32), tuple(lengths))


def joined(parts: Sequence[Steps]) -> Steps:
    """Return the trajectories of several steps, one after the other."""
    raws = {name: np.concatenate([part.raw[name] for part in parts]) for name in parts[0].raw}
    lengths = tuple(length for part in parts for length in part.lengths)
    arrived, truth = (np.concatenate([getattr(part, of) for part in parts]) for of in ("arrived", "truth"))
    return Steps(torch.cat([p.embeddings for p in parts]), raws, arrived, truth, lengths)


def numbers(x: np.ndarray) -> np.ndarray:
    """Return the numbers of samples (N, *shape) in a row each, (N, numbers), pictures at half their size."""
    if x.ndim == 4:
        count, channels, height, width = x.shape
        x = x.reshape(count, channels, height // 2, 2, width // 2, 2).mean((3, 5), dtype=np.float32)
    return np.asarray(x.reshape(len(x), -1), np.float32)


def inputs(posterior: Posterior) -> np.ndarray:
    """Return what a head sees of a posterior (B, L): mean and logarithm of σ, (B, 2 L)."""
    return torch.cat([posterior.mean, 0.5 * posterior.log_variance], dim=1).numpy()


def latents(model: MultimodalVAE, steps: Steps, mask: np.ndarray) -> np.ndarray:
    """Return the inputs (N, 2 L) of a head for steps, each from the modalities of its row of the mask (N, M)."""
    found = []
    with torch.inference_mode():
        for begin in range(0, len(steps), _ROWS):
            some = slice(begin, begin + _ROWS)
            found.append(inputs(model.fuse(steps.embeddings[some], torch.from_numpy(mask[some]))))
    return np.concatenate(found)


def remembering_latents(model: MultimodalVAE, steps: Steps, mask: np.ndarray, decided: Subset) -> np.ndarray:
    """Return the inputs (N, 2 L) of a head with what memory holds of the steps before, all trajectories at once.

    Args:
        model: with a memory.
        steps: every one of each trajectory.
        mask: what enters memory, (N, M).
        decided: what the set has when its latent is read; memory takes the rest afterwards.
    """
    assert model.memory is not None, "the model has a memory"
    known = torch.tensor([name in decided for name in model.names])
    available = torch.from_numpy(mask)
    found = np.empty((len(steps), 2 * model.configuration.latent), np.float32)
    starts, last = steps.starts, np.array(steps.lengths) - 1
    with torch.inference_mode():
        state, elapsed = model.memory.start(len(starts)), torch.full((len(starts),), model.memory.configuration.spacing)
        for step in range(max(steps.lengths)):
            # Trajectories that have ended repeat their last step, which no longer counts.
            rows = starts + np.minimum(step, last)
            now, remembered = available[rows], model.memory.recall(state, elapsed)
            embedded = steps.embeddings[rows]
            read, going = inputs(model.fuse(embedded, now & known, remembered)), step <= last
            found[rows[going]] = read[going]
            state = model.memory.advance(state, elapsed, model.fuse(embedded, now, remembered), now)
    return found


def raw(steps: Steps, names: Sequence[str], mask: np.ndarray, hold: bool) -> np.ndarray:
    """Return the raw numbers (N, I) of some modalities; what a mask (N, M) lacks is zero, or held from before."""
    parts = []
    for name in names:
        column, values = list(steps.raw).index(name), steps.raw[name].copy()
        if hold:
            newest = np.where(mask[:, column], np.arange(len(steps)), 0)
            for start, length in zip(steps.starts, steps.lengths):
                newest[start] = max(newest[start], start)
                newest[start : start + length] = np.maximum.accumulate(newest[start : start + length])
            parts.append(values[newest])
        else:
            values[~mask[:, column]] = 0.0
            parts.append(values)
    return np.concatenate(parts, axis=1)


def outage_mask(steps: Steps, names: Sequence[str], decided: Subset, random: np.random.Generator) -> np.ndarray:
    """Return a mask (N, M) in which some of the `decided` modalities go away for 1 to 10 s, again and again.

    What did not arrive stays away.
    """
    mask = steps.arrived.copy()
    subsets = [subset for subset in all_subsets(list(decided)) if subset]
    for start, length in zip(steps.starts, steps.lengths):
        at = int(random.integers(5, 60))
        while at < length:
            lost, until = subsets[random.integers(len(subsets))], at + int(random.integers(20, 200))
            columns = [list(names).index(name) for name in lost]
            mask[start + at : start + min(until, length), columns] = False
            at = until + int(random.integers(10, 60))
    return mask

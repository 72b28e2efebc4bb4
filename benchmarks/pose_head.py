"""A small head that reads the peg's pose, and whether it touches, from a latent or from raw modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from smvae_core.data.formats.protocol import Trajectory
from smvae_core.data.formats.vision_touch import read_trajectory
from smvae_core.modality import Modality
from smvae_core.model.vae import MultimodalVAE
from smvae_core.simulation.scene import SceneLook
from smvae_core.simulation.shapes import BOX_HEIGHT
from smvae_core.subsets import Subset, all_subsets

POSE = 4
"""Values of a pose: x, y, z in metres and yaw in radians, of the peg's tip relative to the hole."""
NEAR_M = 0.02
"""Nearer to the hole's axis than this, a pose is judged as one of the insertion."""

_HIDDEN, _BATCH, _EPOCHS, _RATE = 128, 256, 30, 2e-3


@dataclass(frozen=True)
class Steps:
    """The steps of some trajectories.

    Attributes:
        arrays: by modality, model units, (N, *shape).
        truth: the pose at the end of each step and 1 where the peg touched in it, else 0; (N, 5), float32.
        lengths: how many steps each trajectory has, in order.
    """

    arrays: dict[str, np.ndarray]
    truth: np.ndarray
    lengths: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.truth)


class Precision(NamedTuple):
    """Errors of a head on held-out steps near the hole: root mean squares, and the share of contacts told rightly."""

    across_mm: float
    height_mm: float
    yaw_mrad: float
    contact: float


def read_steps(trajectories: Sequence[Trajectory], modalities: Sequence[Modality], every: int) -> Steps:
    """Read each `every`-th step of logs of the fixed scene."""
    arrays: dict[str, list[np.ndarray]] = {modality.name: [] for modality in modalities}
    truths = []
    keys = {modality.source for modality in modalities} | {"proprio", "contact"}
    origin = np.array([*SceneLook().hole, BOX_HEIGHT, 0.0])
    for trajectory in trajectories:
        columns = read_trajectory(trajectory, keys)
        rows = np.arange(0, len(columns["proprio"]) - 1, every)
        for modality in modalities:
            raw = columns[modality.source][rows + int(modality.follows)]
            arrays[modality.name].append(np.stack([modality.to_model(value) for value in raw]))
        touched = columns["contact"][rows].reshape(len(rows), -1).any(axis=1)
        truths.append(np.column_stack([columns["proprio"][rows, :POSE] - origin, touched]))
    stacked = {name: np.concatenate(parts) for name, parts in arrays.items()}
    return Steps(stacked, np.concatenate(truths).astype(np.float32), tuple(len(one) for one in truths))


class Head(nn.Module):
    """One hidden layer from standardised numbers to a pose and the logit of a contact.

    Args:
        inputs: how many numbers it reads.
    """

    mean: Tensor
    spread: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, POSE + 1))
        self.direct = nn.Linear(inputs, POSE + 1)
        for name, size in (("mean", inputs), ("spread", inputs), ("centre", POSE), ("scale", POSE)):
            self.register_buffer(name, torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        """Return standardised poses and logits, (B, 5), of inputs (B, I)."""
        x = (x - self.mean) / self.spread
        out: Tensor = self.layers(x) + self.direct(x)
        return out

    @torch.inference_mode()
    def read(self, x: np.ndarray) -> np.ndarray:
        """Return pose and probability of a contact, (B, 5), of inputs (B, I)."""
        out = self(torch.from_numpy(x))
        pose = out[:, :POSE] * self.scale + self.centre
        return torch.cat([pose, out[:, POSE:].sigmoid()], dim=1).numpy()


def fit(inputs: np.ndarray, truth: np.ndarray) -> Head:
    """Return a head that was trained on inputs (N, I) and truths (N, 5)."""
    torch.manual_seed(0)
    x, y = torch.from_numpy(inputs), torch.from_numpy(truth)
    head = Head(inputs.shape[1])
    head.mean.copy_(x.mean(0))
    head.spread.copy_(x.std(0).clamp_min(1e-3))
    head.centre.copy_(y[:, :POSE].mean(0))
    head.scale.copy_(y[:, :POSE].std(0))
    pose, touched = (y[:, :POSE] - head.centre) / head.scale, y[:, POSE]
    steps = _EPOCHS * -(-len(x) // _BATCH)
    optimizer = torch.optim.AdamW(head.parameters(), _RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(x)).split(_BATCH):
            out = head(x[rows])
            loss = nn.functional.mse_loss(out[:, :POSE], pose[rows])
            loss = loss + 0.1 * nn.functional.binary_cross_entropy_with_logits(out[:, POSE], touched[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return head.eval()


def fit_latent(model: MultimodalVAE, steps: Steps, decided: Subset) -> Head:
    """Return a head for latents of any subset; one half of its training are latents of `decided`."""
    subsets = [subset for subset in all_subsets(model.names) if subset]
    random = np.random.default_rng(0)
    mask = np.array([[name in decided for name in model.names]] * len(steps))
    other = random.random(len(steps)) < 0.5
    chosen = [subsets[k] for k in random.integers(len(subsets), size=int(other.sum()))]
    mask[other] = [[name in subset for name in model.names] for subset in chosen]
    return fit(latents(model, steps, mask), steps.truth)


def latents(model: MultimodalVAE, steps: Steps, mask: np.ndarray) -> np.ndarray:
    """Return the posterior means (N, L) of steps, each from the modalities of its row of the mask (N, M)."""
    means = []
    with torch.inference_mode():
        for rows in np.array_split(np.arange(len(steps)), -(-len(steps) // 256)):
            batch = {name: torch.from_numpy(x[rows]) for name, x in steps.arrays.items()}
            means.append(model.posterior(batch, torch.from_numpy(mask[rows])).mean)
    return torch.cat(means).numpy()


def remembering_latents(model: MultimodalVAE, steps: Steps, mask: np.ndarray, decided: Subset) -> np.ndarray:
    """Return the posterior means (N, L) of steps with what memory holds of the steps before, all trajectories at once.

    Args:
        model: with a memory.
        steps: every one of each trajectory.
        mask: what enters memory, (N, M).
        decided: what the set has when its latent is read; memory takes the rest afterwards.
    """
    assert model.memory is not None, "the model has a memory"
    known = torch.tensor([name in decided for name in model.names])
    available = torch.from_numpy(mask)
    embeddings = []
    with torch.inference_mode():
        for rows in np.array_split(np.arange(len(steps)), -(-len(steps) // 256)):
            batch = {name: torch.from_numpy(x[rows]) for name, x in steps.arrays.items()}
            embeddings.append(model.embed(batch, available[rows]))
        embedded, means = torch.cat(embeddings), torch.empty(len(steps), model.configuration.latent)
        starts = np.concatenate([[0], np.cumsum(steps.lengths)[:-1]])
        state, elapsed = model.memory.start(len(starts)), torch.full((len(starts),), model.memory.configuration.spacing)
        for step in range(max(steps.lengths)):
            # Trajectories that have ended repeat their last step, which no longer counts.
            last = np.array(steps.lengths) - 1
            rows = starts + np.minimum(step, last)
            now, remembered = available[rows], model.memory.recall(state, elapsed)
            read = model.fuse(embedded[rows], now & known, remembered).mean
            going = torch.from_numpy(step <= last)
            means[rows[step <= last]] = read[going]
            state = model.memory.advance(state, elapsed, model.fuse(embedded[rows], now, remembered), now)
    return means.numpy()


def fit_remembering(model: MultimodalVAE, steps: Steps, decided: Subset) -> Head:
    """Return a head for latents with memory, trained on whole trajectories and on the same with outages in them."""
    whole = np.ones((len(steps), len(model.names)), bool)
    outages = outage_mask(model, steps, decided, np.random.default_rng(0))
    inputs = [remembering_latents(model, steps, mask, decided) for mask in (whole, outages)]
    return fit(np.concatenate(inputs), np.concatenate([steps.truth] * 2))


def outage_mask(model: MultimodalVAE, steps: Steps, decided: Subset, random: np.random.Generator) -> np.ndarray:
    """Return a mask (N, M) in which some of the `decided` modalities go away for 1 to 10 s, again and again."""
    mask = np.ones((len(steps), len(model.names)), bool)
    subsets = [subset for subset in all_subsets(list(decided)) if subset]
    start = 0
    for length in steps.lengths:
        at = int(random.integers(10, 60))
        while at < length:
            lost, until = subsets[random.integers(len(subsets))], at + int(random.integers(20, 200))
            columns = [model.names.index(name) for name in lost]
            mask[start + at : start + min(until, length), columns] = False
            at = until + int(random.integers(10, 60))
        start += length
    return mask


def raw(arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    """Return the numbers of these modalities in a row, (N, I), pictures at half their size.

    Args:
        arrays: model units, (N, *shape).
        names: of the modalities, in this order.
    """
    return np.concatenate([_halved(arrays[name]).reshape(len(arrays[name]), -1) for name in names], axis=1)


def _halved(x: np.ndarray) -> np.ndarray:
    if x.ndim < 4:
        return x
    count, channels, height, width = x.shape
    return np.asarray(x.reshape(count, channels, height // 2, 2, width // 2, 2).mean((3, 5), dtype=np.float32))


def precision(read: np.ndarray, truth: np.ndarray) -> Precision:
    """Return the errors of what a head read, (N, 5), where the peg was near the hole."""
    near = np.linalg.norm(truth[:, :2], axis=1) < NEAR_M
    error = (read - truth)[near]
    rms = np.sqrt(np.square(error).mean(0))
    told = float(((read[near, POSE] > 0.5) == (truth[near, POSE] > 0.5)).mean())
    return Precision(1e3 * float(np.hypot(rms[0], rms[1])), 1e3 * float(rms[2]), 1e3 * float(rms[3]), told)


def save(path: Path, head: Head) -> None:
    """Write a head."""
    torch.save(head.state_dict(), path)


def load(path: Path) -> Head:
    """Read a head that `save` wrote."""
    state = torch.load(path, weights_only=True)
    head = Head(len(state["mean"]))
    head.load_state_dict(state)
    return head.eval()

"""A small head that reads the peg's pose, and whether it touches, from a latent or from raw modalities."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

POSE = 4
"""Values of a pose: x, y, z in metres and yaw in radians, of the peg's tip relative to the hole."""
NEAR_M = 0.02
"""Nearer to the hole's axis than this, a pose is judged as one of the insertion."""

_HIDDEN, _BATCH, _STEPS, _RATE = 96, 256, 1500, 2e-3
_WIDTH, _SAMPLE = 256, 3000
"""Most inputs that the layers take, and the samples that principal components are found in."""
_NOISE = 0.02
"""The least spread of an input, as a part of the largest."""
_SETTLED = 0.25
"""The part of the training in which only the poses' squares are made small, before σ is learned too."""


class Precision(NamedTuple):
    """Errors of a head on held-out steps near the hole: root mean squares, and the share of contacts told rightly.

    `spread` is the mean of the squared errors across the hole, each divided by the σ² that the head gave: about 1.
    """

    across_mm: float
    height_mm: float
    yaw_mrad: float
    contact: float
    spread: float


class Head(nn.Module):
    """A linear layer beside one hidden layer, of standardised inputs, for poses, contact and the poses' σ.

    Of many inputs it takes the principal components of its training.
    """

    mean: Tensor
    basis: Tensor
    spread: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        width = min(inputs, _WIDTH)
        self.layers = nn.Sequential(nn.Linear(width, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, 2 * POSE + 1))
        self.direct = nn.Linear(width, 2 * POSE + 1)
        for name, size in (("mean", inputs), ("spread", width), ("centre", POSE), ("scale", POSE)):
            self.register_buffer(name, torch.zeros(size))
        self.register_buffer("basis", torch.zeros(inputs, width) if width < inputs else torch.zeros(0))

    def components(self, x: Tensor) -> Tensor:
        """Return the standardised inputs of the layers, (B, width)."""
        x = x - self.mean
        x = x @ self.basis if len(self.basis) else x
        # No further than any sample of the training could be.
        return (x / self.spread).clamp(-20.0, 20.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return standardised poses, logits, and logarithms of σ, (B, 9), of components (B, width)."""
        out: Tensor = self.layers(x) + self.direct(x)
        return out

    @torch.inference_mode()
    def read(self, x: np.ndarray) -> np.ndarray:
        """Return pose, probability of a contact, and σ of the pose, (B, 9), of inputs (B, I)."""
        out = self(self.components(torch.from_numpy(x)))
        pose = out[:, :POSE] * self.scale + self.centre
        sigma = _log_sigma(out).exp() * self.scale
        return torch.cat([pose, out[:, POSE : POSE + 1].sigmoid(), sigma], dim=1).double().numpy()


def fit(inputs: np.ndarray, truth: np.ndarray) -> Head:
    """Return a head that was trained on inputs (N, I) and truths (N, 5)."""
    torch.manual_seed(0)
    x, y = torch.from_numpy(inputs), torch.from_numpy(truth)
    head = Head(inputs.shape[1])
    head.mean.copy_(x.mean(0))
    if len(head.basis):
        some = x[torch.randperm(len(x))[:_SAMPLE]] - head.mean
        head.basis.copy_(torch.svd_lowrank(some, head.basis.shape[1], niter=2)[2])
    head.spread.fill_(1.0)
    z = torch.cat([(part - head.mean) @ head.basis if len(head.basis) else part - head.mean for part in x.split(1024)])
    # Directions in which hardly anything changes are noise, and stay small.
    head.spread.copy_(z.std(0).clamp_min(max(1e-2, _NOISE * float(z.std(0).max()))))
    z = (z / head.spread).clamp(-20.0, 20.0)
    head.centre.copy_(y[:, :POSE].mean(0))
    head.scale.copy_(y[:, :POSE].std(0))
    pose, touched = (y[:, :POSE] - head.centre) / head.scale, y[:, POSE]
    optimizer = torch.optim.AdamW(head.parameters(), _RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_STEPS)
    for step in range(_STEPS):
        rows = torch.randint(len(x), (_BATCH,))
        out = head(z[rows])
        error = (out[:, :POSE] - pose[rows]).square()
        loss = error.mean()
        if step >= _SETTLED * _STEPS:
            log_sigma = _log_sigma(out)
            loss = 0.1 * (0.5 * error * (-2.0 * log_sigma).exp() + log_sigma).mean() + loss
        loss = loss + 0.1 * nn.functional.binary_cross_entropy_with_logits(out[:, POSE], touched[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    return head.eval()


def precision(read: np.ndarray, truth: np.ndarray) -> Precision:
    """Return the errors of what a head read, (N, 9), where the peg was near the hole."""
    near = np.linalg.norm(truth[:, :2], axis=1) < NEAR_M
    error = read[near, :POSE] - truth[near, :POSE]
    rms = np.sqrt(np.square(error).mean(0))
    told = float(((read[near, POSE] > 0.5) == (truth[near, POSE] > 0.5)).mean())
    spread = float(np.square(error[:, :2] / read[near, POSE + 1 : POSE + 3]).mean())
    return Precision(1e3 * float(np.hypot(rms[0], rms[1])), 1e3 * float(rms[2]), 1e3 * float(rms[3]), told, spread)


def save(path: Path, head: Head) -> None:
    """Write a head."""
    torch.save(head.state_dict(), path)


def load(path: Path) -> Head:
    """Read a head that `save` wrote."""
    state = torch.load(path, weights_only=True)
    head = Head(len(state["mean"]))
    head.load_state_dict(state)
    return head.eval()


def _log_sigma(out: Tensor) -> Tensor:
    # Of standardised poses: from about 0.1 mm to ten times the spread of the training.
    return out[:, POSE + 1 :].clamp(-6.0, 2.3)

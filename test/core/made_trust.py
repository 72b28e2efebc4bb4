"""Trust made by hand: a bright picture is a faulty one, whatever the others say."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from smvae_core.checkpoint import save
from smvae_core.model.trust import TrustNetwork
from smvae_core.model.vae import MultimodalVAE
from smvae_core.trust import TrustRecord

THRESHOLD = 12.0
"""Four sets of the strongest evidence."""


def picture(bright: bool, seed: int = 0) -> np.ndarray:
    """Return an RGB image in model units, (3, 64, 64)."""
    noise = np.random.default_rng(seed).random((3, 64, 64), np.float32)
    return (0.2 * noise + (0.7 if bright else 0.05)).astype(np.float32)


def pictures(bright: bool) -> np.ndarray:
    """Return four RGB images in model units, (4, 3, 64, 64)."""
    return np.stack([picture(bright, seed) for seed in range(4)])


def trust_by_brightness(
    model: MultimodalVAE, dark: np.ndarray | None = None, bright: np.ndarray | None = None
) -> tuple[TrustNetwork, TrustRecord]:
    """Return heads for which nothing agrees or disagrees, and a bright picture alone is evidence against rgb.

    Args:
        dark, bright: examples, (N, 3, 64, 64); by default those of `pictures`.
    """
    network = TrustNetwork(len(model.names), model.width, model.configuration.latent, hidden=4)
    with torch.no_grad():
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
        low = _embedding(model, pictures(False) if dark is None else dark)
        high = _embedding(model, pictures(True) if bright is None else bright)
        towards = 40.0 * (high - low) / (high - low).square().sum()
        own, alone = network.own[0], network.alone[0]
        assert isinstance(own, nn.Linear) and isinstance(alone, nn.Sequential)
        own.weight[4, : model.width], own.bias[4] = towards, -towards @ (0.5 * (high + low))
        alone[1].weight[0, 0] = alone[3].weight[0, 0] = 1.0
        for head in network.alone:
            head[-1].bias[:] = -6.0  # type: ignore[index]
    quantiles = tuple(np.linspace(-10.0, 0.0, 201).tolist())
    record = TrustRecord(
        hidden=4,
        calibrated_on=("made up",),
        samples=1,
        period=0.05,
        threshold=(THRESHOLD,) * len(model.names),
        surprise=((quantiles,) * len(model.names),) * len(model.names),
    )
    return network.eval(), record


def write_checkpoint(
    path: Path, model: MultimodalVAE, dark: np.ndarray | None = None, bright: np.ndarray | None = None
) -> Path:
    """Write a checkpoint whose trust is that."""
    mean = {modality.name: torch.full(modality.shape, 0.25) for modality in model.configuration.modalities}
    save(path, model, mean, None, None, trust=trust_by_brightness(model, dark, bright))
    return path


def _embedding(model: MultimodalVAE, examples: np.ndarray) -> Tensor:
    embedding: Tensor = model.embeddings["rgb"](torch.from_numpy(examples)).mean(dim=0)
    return embedding

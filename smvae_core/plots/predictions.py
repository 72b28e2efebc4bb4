"""Rows of pictures: what the cameras saw, and what the model predicts."""

from collections.abc import Mapping

import numpy as np
import torch

from smvae_core.data.samples import Samples
from smvae_core.model.vae import MultimodalVAE
from smvae_core.plots.sheets import depth_picture, depth_range

_PICTURES = 6


def picture_rows(
    model: MultimodalVAE, samples: Samples, count: int = _PICTURES, in_order: bool = False
) -> dict[str, list[np.ndarray]]:
    """Draw what the cameras saw, and each camera predicted from several subsets.

    The subsets are everything, everything but the camera itself, and the modalities that are not images. Samples are
    evenly spaced among those that have everything, or among all where none has.

    Args:
        count: number of samples.
        in_order: take the first samples, whatever they have.

    Returns:
        Label of each row to `count` images (S, S, 3), uint8.
    """
    whole = np.flatnonzero(samples.available.all(axis=1))
    if in_order or not len(whole):
        whole = np.arange(count if in_order else len(samples))
    batch, available = samples.batch(whole[np.linspace(0, len(whole) - 1, count).astype(int)])
    device = next(model.parameters()).device
    batch, available = {name: x.to(device) for name, x in batch.items()}, available.to(device)
    cameras = [name for name, modality in model.modalities.items() if modality.is_image]
    rest = frozenset(model.names) - frozenset(cameras)
    rows: dict[str, list[np.ndarray]] = {}
    training = model.training
    model.eval()
    with torch.inference_mode():
        for camera in cameras:
            limits = _limits(model, camera, batch[camera])
            rows[f"{camera}, seen"] = shown(model, camera, batch[camera], limits)
            others = {"everything": frozenset(model.names)}
            if len(model.names) > 1:
                others["the others"] = frozenset(model.names) - {camera}
            if rest and rest not in others.values():
                others[" + ".join(name for name in model.names if name in rest)] = rest
            for label, subset in others.items():
                mask = available & torch.tensor([name in subset for name in model.names], device=device)
                predicted = model.predict(model.posterior(batch, mask).mean, [camera])[camera]
                rows[f"{camera}, from {label}"] = shown(model, camera, predicted, limits)
    model.train(training)
    return rows


def shown(
    model: MultimodalVAE, camera: str, images: torch.Tensor, limits: tuple[float, float] | None = None
) -> list[np.ndarray]:
    """Convert images (B, *shape) in model units to pictures (S, S, 3), uint8.

    Args:
        limits: the near and far of `depth_picture`; by default they suit these images.
    """
    physical = [model.modalities[camera].to_physical(image) for image in images.cpu().numpy()]
    if model.modalities[camera].preprocessing.kind == "depth":
        return [depth_picture(metres, *(limits or _limits(model, camera, images))) for metres in physical]
    return physical


def tiled(rows: Mapping[str, list[np.ndarray]]) -> np.ndarray | None:
    """Join the rows to one picture (H, W, 3), uint8, without labels; None if there are no rows."""
    return np.concatenate([np.concatenate(row, axis=1) for row in rows.values()]) if rows else None


def _limits(model: MultimodalVAE, camera: str, images: torch.Tensor) -> tuple[float, float]:
    modality = model.modalities[camera]
    if modality.preprocessing.kind != "depth":
        return 0.0, 1.0
    return depth_range(np.stack([modality.to_physical(image) for image in images.cpu().numpy()]))

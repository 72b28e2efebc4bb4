"""Rows of pictures that a model draws from some of the modalities (Fig. 3 to 7 of the SMVAE paper)."""

import numpy as np
import torch
from torch import Tensor

from smvae_core.data.samples import Samples
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.plots.predictions import picture_rows, shown
from smvae_core.subsets import evenly, subset_mask


@torch.inference_mode()
def from_values(
    model: MultimodalVAE, given: str, values: dict[str, Tensor], wanted: str, count: int, seed: int = 0
) -> dict[str, list[np.ndarray]]:
    """Draw a row for each value: E[wanted | z] for `count` draws of z ~ q(z | value).

    Args:
        given: modality of the values.
        values: label of the row to a value (*shape), model units.
        wanted: an image modality.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    mask = subset_mask(model.names, [(given,)])
    rows = {}
    for label, value in values.items():
        batch: Batch = {given: value.expand(count, *value.shape).to(device)}
        noise = torch.randn(count, model.configuration.latent, generator=generator).to(device)
        choice = torch.rand(count, generator=generator).to(device)
        z = model.posterior(batch, mask.expand(count, -1)).sample(noise, choice)
        rows[label] = shown(model, wanted, model.predict(z, [wanted])[wanted])
    return rows


@torch.inference_mode()
def from_each(model: MultimodalVAE, samples: Samples, wanted: str, count: int) -> dict[str, list[np.ndarray]]:
    """Draw for each other camera two rows: what it saw, and `wanted` predicted from that alone (Fig. 6 b).

    Args:
        wanted: an image modality.
        count: number of samples, evenly spaced among those that have everything, or among all where none has.
    """
    batch, available = _chosen(model, samples, count)
    rows = {f"{wanted}, seen": shown(model, wanted, batch[wanted])}
    for camera in _cameras(model, wanted):
        rows[f"{camera}, seen"] = shown(model, camera, batch[camera])
        rows[f"{wanted} from {camera}"] = _predicted(model, batch, available, camera, wanted)
    return rows


@torch.inference_mode()
def from_one(model: MultimodalVAE, samples: Samples, given: str, count: int) -> dict[str, list[np.ndarray]]:
    """Draw for each other camera two rows: what it saw, and that predicted from `given` alone (Fig. 6 a).

    Args:
        given: an image modality.
        count: as for `from_each`.
    """
    batch, available = _chosen(model, samples, count)
    rows = {f"{given}, seen": shown(model, given, batch[given])}
    for camera in _cameras(model, given):
        rows[f"{camera}, seen"] = shown(model, camera, batch[camera])
        rows[f"{camera} from {given}"] = _predicted(model, batch, available, given, camera)
    return rows if len(rows) > 1 else {}


def consecutive(model: MultimodalVAE, samples: Samples, count: int) -> dict[str, list[np.ndarray]]:
    """Draw consecutive steps as `picture_rows` does, from the middle of the longest unbroken run of steps (Fig. 7 b).

    Returns:
        No rows where no two samples are consecutive steps, as in a data set of pictures.
    """
    follows = np.flatnonzero(samples.previous[1:] == samples.rows[:-1]) + 1
    runs = np.split(follows, np.flatnonzero(np.diff(follows) != 1) + 1)
    longest = max(runs, key=len)
    if not len(longest):
        return {}
    steps = np.insert(longest, 0, longest[0] - 1)
    middle = max(0, (len(steps) - count) // 2)
    return picture_rows(model, samples.select(steps[middle : middle + count]), min(count, len(steps)), in_order=True)


def _chosen(model: MultimodalVAE, samples: Samples, count: int) -> tuple[Batch, Tensor]:
    device = next(model.parameters()).device
    whole = np.flatnonzero(samples.available.all(axis=1))
    whole = whole if len(whole) else np.arange(len(samples))
    batch, available = samples.batch(whole[evenly(len(whole), count)])
    return {name: x.to(device) for name, x in batch.items()}, available


def _predicted(model: MultimodalVAE, batch: Batch, available: Tensor, given: str, wanted: str) -> list[np.ndarray]:
    mask = subset_mask(model.names, [(given,)]) & available
    return shown(model, wanted, model.predict(model.posterior(batch, mask).mean, [wanted])[wanted])


def _cameras(model: MultimodalVAE, but: str) -> list[str]:
    return [name for name, modality in model.modalities.items() if modality.is_image and name != but]

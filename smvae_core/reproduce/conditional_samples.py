"""Rows of pictures that a model draws from what it is given (Fig. 3 to 7 of the SMVAE paper)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from smvae_core.data.samples import Samples
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.plots.predictions import shown
from smvae_core.subsets import evenly, subset_mask


@torch.inference_mode()
def from_values(
    model: MultimodalVAE, given: str, values: dict[str, Tensor], wanted: str, count: int, seed: int = 0
) -> dict[str, list[np.ndarray]]:
    """A row for each value: E[wanted | z] for `count` draws of z ~ q(z | value).

    Args:
        given: modality that `values` are of.
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
    """For each other camera two rows: what it saw, and `wanted` predicted from that alone (Fig. 6).

    Args:
        wanted: an image modality.
        count: samples, evenly spaced among those that have everything, or among all where none has.
    """
    device = next(model.parameters()).device
    whole = np.flatnonzero(samples.available.all(axis=1))
    whole = whole if len(whole) else np.arange(len(samples))
    batch, available = samples.batch(whole[evenly(len(whole), count)])
    batch = {name: x.to(device) for name, x in batch.items()}
    rows = {f"{wanted}, seen": shown(model, wanted, batch[wanted])}
    for camera in _cameras(model, wanted):
        mask = subset_mask(model.names, [(camera,)]) & available
        predicted = model.predict(model.posterior(batch, mask).mean, [wanted])[wanted]
        rows[f"{camera}, seen"] = shown(model, camera, batch[camera])
        rows[f"{wanted} from {camera}"] = shown(model, wanted, predicted)
    return rows


def _cameras(model: MultimodalVAE, wanted: str) -> Sequence[str]:
    return [name for name, modality in model.modalities.items() if modality.is_image and name != wanted]

"""How well every modality is predicted from every subset of modalities."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from smvae_core.data.samples import Samples
from smvae_core.model.likelihood import log_likelihood
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.scores import ErrorSums, Evaluation
from smvae_core.subsets import Subset, evenly, judged_subsets, subset_mask
from smvae_core.systems.posterior import Posterior


def evaluate(
    model: MultimodalVAE,
    samples: Samples,
    mean: Batch,
    subsets: Sequence[Subset] | None = None,
    most: int | None = None,
    batch_size: int = 128,
    draws: int = 0,
) -> Evaluation:
    """Predict every modality from every subset; the same input gives the same figures.

    Args:
        model: left in the mode (training or evaluation) that it was in.
        samples: held-out samples.
        mean: the trivial prediction by modality, (*shape), of the training part.
        subsets: by default `judged_subsets`.
        most: evaluate at most so many samples, evenly spaced.
        batch_size: samples that are computed together.
        draws: number of draws of z for the log-likelihoods; 0 for none. More of them raise the estimate towards the
            true value.
    """
    subsets = judged_subsets(model.names) if subsets is None else subsets
    device = next(model.parameters()).device
    masks = subset_mask(model.names, subsets, device)
    index = evenly(len(samples), most)
    generator, chooser = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    sums = ErrorSums(model.names, subsets)
    training = model.training
    model.eval()
    with torch.inference_mode():
        for rows in np.array_split(index, -(-len(index) // batch_size)):
            batch, available = samples.batch(rows)
            batch, available = {name: x.to(device) for name, x in batch.items()}, available.to(device)
            embeddings = model.embed(batch, available)
            noise = torch.randn(draws, len(rows), model.configuration.latent, generator=generator).to(device)
            choices = torch.rand(draws, len(rows), generator=chooser).to(device)
            held = (available[:, None] | ~masks).all(dim=2)
            trivial = {name: _mean_square(x - mean[name].to(device)) for name, x in batch.items()}
            errors, nats = [], []
            for mask in masks:
                posterior = model.fuse(embeddings, mask.expand_as(available))
                predicted = model.predict(posterior.mean)
                errors.append(_columns(model, {name: _mean_square(predicted[name] - x) for name, x in batch.items()}))
                if draws:
                    nats.append(_log_mean_likelihood(model, batch, posterior, noise, choices))
            judged = held[:, :, None] & available[:, None]
            sums.add(
                torch.where(judged, torch.stack(errors, dim=1), math.nan).cpu().numpy(),
                _columns(model, trivial).cpu().numpy(),
                held.cpu().numpy(),
                torch.stack(nats, dim=1).cpu().numpy() if draws else None,
            )
    model.train(training)
    return sums.evaluation()


def _log_mean_likelihood(
    model: MultimodalVAE, batch: Batch, posterior: Posterior, noise: Tensor, choices: Tensor
) -> Tensor:
    """Return the log-likelihood of each modality, averaged (as a likelihood) over draws of z, (B, M)."""
    drawn = []
    for one, choice in zip(noise, choices):
        decoded = model.decode(posterior.sample(one, choice))
        nats = {name: log_likelihood(model.modalities[name], x, decoded[name]) for name, x in batch.items()}
        drawn.append(_columns(model, nats))
    return torch.stack(drawn).logsumexp(dim=0) - math.log(len(drawn))


def _columns(model: MultimodalVAE, figures: Batch) -> Tensor:
    """Return the figures of the modalities, each (B,), side by side: (B, M), double precision."""
    return torch.stack([figures[name].double() for name in model.names], dim=1)


def _mean_square(x: Tensor) -> Tensor:
    return x.flatten(1).square().mean(dim=1)

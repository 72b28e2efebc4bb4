"""How well every sense is predicted from every subset of senses."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from smvae_core.data.samples import Samples
from smvae_core.model.likelihood import log_likelihood
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.scores import Evaluation, SubsetErrors
from smvae_core.subsets import Subset, all_subsets, evenly, subset_mask


def evaluate(
    model: MultimodalVAE,
    samples: Samples,
    mean: Batch,
    subsets: Sequence[Subset] | None = None,
    most: int | None = None,
    batch_size: int = 128,
    draws: int = 0,
) -> Evaluation:
    """Predict every modality from every subset: deterministic.

    Args:
        mean: the trivial prediction by modality, (*shape), of the training part.
        subsets: by default all.
        most: evaluate at most so many samples, evenly spaced.
        draws: of z, for the log-likelihoods; 0 for none. More of them raise the estimate towards the true value.
    """
    subsets = all_subsets(model.names) if subsets is None else subsets
    device = next(model.parameters()).device
    masks = subset_mask(model.names, subsets, device)
    index = evenly(len(samples), most)
    generator, chooser = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)

    sums = torch.zeros(4, len(subsets), len(model.names), dtype=torch.float64)
    squared, trivial, likelihood, scored = sums
    held = torch.zeros(len(subsets), dtype=torch.long)
    training = model.training
    model.eval()
    with torch.inference_mode():
        for rows in np.array_split(index, -(-len(index) // batch_size)):
            batch, available = samples.batch(rows)
            batch, available = {name: x.to(device) for name, x in batch.items()}, available.to(device)
            embeddings = model.embed(batch, available)
            base = {name: _mean_square(x - mean[name].to(device)) for name, x in batch.items()}
            noise = torch.randn(draws, len(rows), model.configuration.latent, generator=generator).to(device)
            choices = torch.rand(draws, len(rows), generator=chooser).to(device)
            for s, mask in enumerate(masks):
                whole = (available | ~mask).all(dim=1)
                held[s] += int(whole.sum())
                posterior = model.fusion(embeddings, mask.expand_as(available))
                predicted = model.predict(posterior.mean)
                log_p = [_log_p(model, batch, posterior.sample(*drawn)) for drawn in zip(noise, choices)]
                for m, name in enumerate(model.names):
                    here = whole & available[:, m]
                    squared[s, m] += _mean_square(predicted[name] - batch[name])[here].sum().cpu()
                    trivial[s, m] += base[name][here].sum().cpu()
                    scored[s, m] += int(here.sum())
                    if draws:
                        mixture = torch.stack([x[name] for x in log_p]).logsumexp(dim=0) - math.log(draws)
                        likelihood[s, m] += mixture[here].sum().cpu()
    model.train(training)

    count = scored.clamp(min=1)
    mse, share, nats = squared / count, squared / trivial, likelihood / count

    def by_name(values: Tensor, counts: Tensor) -> dict[str, float]:
        return {name: float(value) for name, value, n in zip(model.names, values, counts) if n}

    return Evaluation(
        samples=len(index),
        subsets=tuple(
            SubsetErrors(
                subset=subset,
                samples=int(held[s]),
                mse=by_name(mse[s], scored[s]),
                share=by_name(share[s], trivial[s]),
                log_likelihood=by_name(nats[s], scored[s]) if draws else {},
            )
            for s, subset in enumerate(subsets)
        ),
    )


def _log_p(model: MultimodalVAE, batch: Batch, z: Tensor) -> Batch:
    decoded = model.decode(z)
    return {name: log_likelihood(model.modalities[name], batch[name], x).double() for name, x in decoded.items()}


def _mean_square(x: Tensor) -> Tensor:
    return x.flatten(1).square().mean(dim=1).double()

"""The latent in two dimensions, by t-SNE, as in Fig. 2 of the SMVAE paper: a panel for each subset of modalities."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn.manifold import TSNE

from smvae_core.data.samples import Samples
from smvae_core.evaluation.probes import posterior_means
from smvae_core.model.vae import MultimodalVAE
from smvae_core.subsets import Subset, evenly


class LatentMap(NamedTuple):
    """The places of N samples in the map.

    Attributes:
        subsets: S subsets of the modalities.
        points: (S, N, 2): one map for all subsets, so that the same place means the same latent; NaN where a sample
            has nothing of the subset.
        samples: numbers of the samples, (N,).
    """

    subsets: tuple[Subset, ...]
    points: np.ndarray
    samples: np.ndarray


def latent_map(model: MultimodalVAE, data: Samples, subsets: Sequence[Subset], most: int, seed: int = 0) -> LatentMap:
    """Map the posterior means from each subset.

    Args:
        most: use at most so many samples, evenly spaced among those that have all modalities of the subsets, or among
            all where none has.
    """
    names = sorted({name for subset in subsets for name in subset})
    columns = [model.names.index(name) for name in names]
    whole = np.flatnonzero(data.available[:, columns].all(axis=1))
    whole = whole if len(whole) else np.arange(len(data))
    index = whole[evenly(len(whole), most)]
    means = posterior_means(model, data, subsets, index)
    flat = means.reshape(-1, means.shape[-1])
    # t-SNE wants a perplexity below the number of points.
    points = TSNE(perplexity=min(30.0, (len(flat) - 1) / 3.0), init="pca", random_state=seed).fit_transform(flat)
    seen = [data.available[index][:, [model.names.index(name) for name in subset]].any(axis=1) for subset in subsets]
    points = np.where(np.stack(seen)[..., None], points.reshape(*means.shape[:2], 2), np.nan)
    return LatentMap(tuple(subsets), points, index)

"""Posteriors of a set that are built of experts, one Gaussian per modality: products, and mixtures of products.

The networks take the embeddings (B, M, d) of sets and their masks (..., B, M). The empty set gives the prior N(0, I).
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor, nn

from smvae_core.systems.posterior import Mixture, Posterior, at_least_single, bounded_embeddings, bounded_log_variance


class Experts(NamedTuple):
    """The experts q(z | x_m) of all modalities.

    Attributes:
        mean: (B, M, L).
        log_variance: (B, M, L).
    """

    mean: Tensor
    log_variance: Tensor

    def product(self, subset: Tensor, prior: bool | Tensor = False) -> Posterior:
        """Return the normalised product of the experts of each row's subset.

        Args:
            subset: (..., B, M), bool; a row without any gives the prior.
            prior: whether N(0, I) is one more expert of each product; of rows, (..., B), or of all.
        """
        # A loop, since the modalities are few: no tensor has both the subsets' and the modalities' dimension, and mixed
        # precision, which halves the precision of matrix products, leaves sums alone.
        total = torch.zeros_like(self.mean[:, 0]) + (prior.unsqueeze(-1) if isinstance(prior, Tensor) else float(prior))
        weighted, precisions = torch.zeros_like(total), []
        for mean, log_variance, here in zip(
            self.mean.unbind(dim=1), self.log_variance.unbind(dim=1), subset.unsqueeze(-1).unbind(dim=-2)
        ):
            precision = torch.where(here, -log_variance, -math.inf).exp()
            total, weighted = total + precision, weighted + precision * mean
            precisions.append(precision)
        total = torch.where(subset.any(dim=-1, keepdim=True), total, 1.0)
        share = torch.stack([(precision / total).mean(dim=-1) for precision in precisions], dim=-1)
        if prior is not False:
            # The prior's part of the precision belongs to no modality.
            share = share / share.sum(dim=-1, keepdim=True).clamp(min=1e-30)
        return Posterior(weighted / total, -total.log(), share)

    def mixture(self, mask: Tensor, subsets: Tensor) -> Mixture:
        """Return the mixture, with equal weights, of the products of all `subsets` that lie within each row's set.

        Args:
            mask: (..., B, M), bool; a row without any gives the prior.
            subsets: (K, M), bool, among them those of one modality.
        """
        subsets = subsets.view(subsets.shape[0], *(1,) * (mask.ndim - 1), subsets.shape[1])
        # An empty row has every component, each of them the prior.
        within = ~(subsets & ~mask).any(dim=-1) | ~mask.any(dim=-1)
        return Mixture.of(self.product(subsets & mask), within)


class UnimodalEncoders(nn.Module):
    """A linear head for each modality, from its embedding to its expert (FC.L×2, as the last line of SMVAE's Table 2).

    Args:
        names: modalities, in the order of the mask's columns.
        memory: whether the last column is memory, with an expert of its own.
    """

    def __init__(self, names: Sequence[str], embedding: int, latent: int, memory: bool = False) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(embedding, 2 * latent) for name in names})
        self.memory = nn.Linear(embedding, 2 * latent) if memory else None

    def forward(self, embeddings: Tensor) -> Experts:
        """Return the experts of embeddings (B, M, d)."""
        embeddings = bounded_embeddings(embeddings)
        networks = [*self.heads.values(), *([] if self.memory is None else [self.memory])]
        heads = [head(x) for head, x in zip(networks, embeddings.unbind(dim=1))]
        mean, log_variance = at_least_single(torch.stack(heads, dim=1)).chunk(2, dim=-1)
        return Experts(mean, bounded_log_variance(log_variance))


class ProductOfExperts(nn.Module):
    """The product of the experts of the set, with the prior as one more expert, or without.

    Where memory is in the set, its expert takes the place of the prior.
    """

    def __init__(self, names: Sequence[str], embedding: int, latent: int, prior: bool, memory: bool = False) -> None:
        super().__init__()
        self.experts = UnimodalEncoders(names, embedding, latent, memory)
        self.prior, self.memory = prior, memory

    def forward(self, embeddings: Tensor, mask: Tensor) -> Posterior:
        """Return the posterior of each row's set."""
        experts: Experts = self.experts(embeddings)
        return self.product(experts, mask)

    def product(self, experts: Experts, mask: Tensor) -> Posterior:
        """Return the posterior of sets (..., B, M) from the experts of `self.experts`."""
        return experts.product(mask, ~mask[..., -1] if self.prior and self.memory else self.prior)


NO_MEMORY_IN_MIXTURES = (
    "a mixture weighs its components equally, so a guess from memory would count as much as what is seen"
)
"""The reason for which mixtures cannot have memory."""


class MixtureOfProducts(nn.Module):
    """A mixture with equal weights: one component for each subset of the set, the product of the subset's experts.

    Args:
        most: modalities in the largest subsets; 1 makes it a mixture of the experts themselves.
    """

    subsets: Tensor

    def __init__(self, names: Sequence[str], embedding: int, latent: int, most: int) -> None:
        super().__init__()
        self.experts = UnimodalEncoders(names, embedding, latent)
        columns = range(len(names))
        subsets = [subset for size in range(1, most + 1) for subset in combinations(columns, size)]
        self.register_buffer("subsets", torch.tensor([[m in s for m in columns] for s in subsets]), persistent=False)

    def forward(self, embeddings: Tensor, mask: Tensor) -> Mixture:
        """Return the posterior of each row's set."""
        experts: Experts = self.experts(embeddings)
        return experts.mixture(mask, self.subsets)

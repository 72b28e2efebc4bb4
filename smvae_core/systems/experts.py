"""Posteriors of a set that are built of one Gaussian a modality, an expert: MVAE, MMVAE, MoPoE, JMVAE and CRMVAE.

All take the embeddings (B, M, d) of sets and their masks (..., B, M), as `fusion.SetAttention` does. The empty set gives
the prior N(0, I).
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor, nn

from smvae_core.systems.posterior import Mixture, Posterior, at_least_single


class Experts(NamedTuple):
    """q(z | x_m) of each modality.

    Attributes:
        mean: (B, M, L).
        log_variance: (B, M, L).
    """

    mean: Tensor
    log_variance: Tensor

    def product(self, subset: Tensor, prior: bool = False) -> Posterior:
        """The normalised product of the experts of each row's subset, and of the prior N(0, I) if that is one too.

        Args:
            subset: (..., B, M), bool; a row without any gives the prior.
        """
        # A loop, since the modalities are few: no tensor has both the subsets' and the modalities' dimension, and mixed
        # precision, which takes half of it for matrix products, leaves sums alone.
        total, weighted, precisions = 1.0 * prior, 0.0, []
        for mean, log_variance, here in zip(
            self.mean.unbind(dim=1), self.log_variance.unbind(dim=1), subset.unsqueeze(-1).unbind(dim=-2)
        ):
            precision = torch.where(here, -log_variance, -math.inf).exp()
            total, weighted = total + precision, weighted + precision * mean
            precisions.append(precision)
        total = torch.where(subset.any(dim=-1, keepdim=True), total, 1.0)
        share = torch.stack([(precision / total).mean(dim=-1) for precision in precisions], dim=-1)
        if prior:
            # What the prior has of the precision is no modality's.
            share = share / share.sum(dim=-1, keepdim=True).clamp(min=1e-30)
        return Posterior(weighted / total, -total.log(), share)

    def mixture(self, mask: Tensor, subsets: Tensor) -> Mixture:
        """The mixture with equal weights of the products of those subsets that lie within each row's set.

        Args:
            mask: (..., B, M), bool; a row without any gives the prior.
            subsets: (K, M), bool, among them those of one modality.
        """
        subsets = subsets.view(subsets.shape[0], *(1,) * (mask.ndim - 1), subsets.shape[1])
        # A row without any has every component, each of them the prior.
        within = ~(subsets & ~mask).any(dim=-1) | ~mask.any(dim=-1)
        return Mixture.of(self.product(subsets & mask), within)


class UnimodalEncoders(nn.Module):
    """A linear head for each modality, from its embedding to its expert (FC.L×2, as the last line of Table 2).

    Args:
        names: of the modalities, in the order of the mask's columns.
    """

    def __init__(self, names: Sequence[str], embedding: int, latent: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(embedding, 2 * latent) for name in names})

    def forward(self, embeddings: Tensor) -> Experts:
        """Of embeddings (B, M, d); what stands in absent slots must be finite."""
        heads = [head(x) for head, x in zip(self.heads.values(), embeddings.unbind(dim=1))]
        return Experts(*at_least_single(torch.stack(heads, dim=1)).chunk(2, dim=-1))


class ProductOfExperts(nn.Module):
    """The product of the experts of the set; with the prior as one more expert (MVAE, Wu & Goodman 2018, §2.2), or
    without (CRMVAE, Suzuki 2023).
    """

    def __init__(self, names: Sequence[str], embedding: int, latent: int, prior: bool) -> None:
        super().__init__()
        self.experts = UnimodalEncoders(names, embedding, latent)
        self.prior = prior

    def forward(self, embeddings: Tensor, mask: Tensor) -> Posterior:
        """The posterior of each row's set."""
        return self.experts(embeddings).product(mask, self.prior)


class MixtureOfProducts(nn.Module):
    """A mixture with equal weights over subsets of the set of the product of their experts.

    MoPoE (Sutter et al. 2021, Eq. 4) takes all non-empty subsets; MMVAE (Shi et al. 2019, Eq. 2) those of one modality.
    """

    subsets: Tensor

    def __init__(self, names: Sequence[str], embedding: int, latent: int, most: int) -> None:
        """`most`: modalities in one subset."""
        super().__init__()
        self.experts = UnimodalEncoders(names, embedding, latent)
        columns = range(len(names))
        subsets = [subset for size in range(1, most + 1) for subset in combinations(columns, size)]
        self.register_buffer("subsets", torch.tensor([[m in s for m in columns] for s in subsets]), persistent=False)

    def forward(self, embeddings: Tensor, mask: Tensor) -> Mixture:
        """The posterior of each row's set, in components of latent size: M of MMVAE, 2^M - 1 of MoPoE."""
        return self.experts(embeddings).mixture(mask, self.subsets)


class JointAndUnimodal(nn.Module):
    """JMVAE (Suzuki et al. 2016, §3.2): a joint encoder of everything, and an encoder of each modality.

    The whole set has the joint encoder's posterior. The paper has no posterior of a part with two or more modalities:
    here it is the product of their unimodal ones. The joint encoder is a layer over the embeddings side by side, written
    as a sum so that it does not depend on the order of the modalities. In training it sees what a sample has, with
    zeros for what it lacks.
    """

    def __init__(self, names: Sequence[str], embedding: int, latent: int) -> None:
        super().__init__()
        self.experts = UnimodalEncoders(names, embedding, latent)
        self.hidden = nn.ModuleDict({name: nn.Linear(embedding, embedding, bias=False) for name in names})
        self.bias = nn.Parameter(torch.zeros(embedding))
        self.head = nn.Linear(embedding, 2 * latent)

    def forward(self, embeddings: Tensor, mask: Tensor) -> Posterior:
        """The posterior of each row's set. The attention of the whole set is that of its unimodal encoders."""
        product = self.experts(embeddings).product(mask)
        joint = self.joint(embeddings, mask)
        whole = mask.all(dim=-1, keepdim=True)
        return Posterior(
            mean=torch.where(whole, joint.mean, product.mean),
            log_variance=torch.where(whole, joint.log_variance, product.log_variance),
            attention=product.attention,
        )

    def joint(self, embeddings: Tensor, mask: Tensor) -> Posterior:
        """The joint encoder's posterior of whatever each row has."""
        hidden = self.bias
        for layer, x, present in zip(self.hidden.values(), embeddings.unbind(dim=1), mask.unsqueeze(-1).unbind(dim=-2)):
            hidden = hidden + torch.where(present, layer(x), 0.0)
        mean, log_variance = at_least_single(self.head(nn.functional.silu(hidden))).chunk(2, dim=-1)
        observed = mask.any(dim=-1, keepdim=True)
        return Posterior(
            mean=torch.where(observed, mean, 0.0),
            log_variance=torch.where(observed, log_variance, 0.0),
            attention=mask / mask.sum(dim=-1, keepdim=True).clamp(min=1),
        )

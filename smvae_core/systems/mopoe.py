"""MoPoE (Sutter et al. 2021): a mixture, over all non-empty subsets, of products of the subset's experts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.draws import Draws, everything, uniform_subsets
from smvae_core.systems.experts import NO_MEMORY_IN_MIXTURES, MixtureOfProducts
from smvae_core.systems.system import System
from smvae_core.systems.terms import Step, Terms, equal_weights


def _network(names: Sequence[str], embedding: int, latent: int, heads: int, memory: bool) -> MixtureOfProducts:
    """Build the posterior of Eq. 4: a mixture with equal weights of the products of all subsets."""
    return MixtureOfProducts(names, embedding, latent, most=len(names))


def _draw(
    settings: ObjectiveConfiguration, available: Tensor, latent: int, names: Sequence[str], generator: torch.Generator
) -> Draws:
    """Draw one component of the mixture with its weight; it explains everything."""
    subset = uniform_subsets(available, generator)[None]
    return Draws.of(subset, available[None], everything(available), latent, generator)


def _terms(network: MixtureOfProducts, step: Step, settings: ObjectiveConfiguration) -> Terms:
    """Compute Eq. 6, the mean over all subsets of their ELBOs, by the one subset that was drawn.

    The bound is linear in the components, so that the estimate is unbiased.
    """
    posterior = network.experts(step.embeddings).product(step.draws.subsets)
    kl = posterior.kl_to_prior()[0]
    return Terms(posterior.sample(step.draws.noise), equal_weights(step.draws), step.beta * kl, kl)


SYSTEM = System(
    settings=ObjectiveConfiguration,
    network=_network,
    draw=_draw,
    terms=_terms,
    memory=NO_MEMORY_IN_MIXTURES,
)

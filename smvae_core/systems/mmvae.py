"""MMVAE (Shi et al. 2019): a mixture of one expert per modality. Its ELBO is trained, not the IWAE."""

from collections.abc import Sequence

import torch
from torch import Tensor

from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.draws import Draws, everything, singles
from smvae_core.systems.experts import NO_MEMORY_IN_MIXTURES, MixtureOfProducts
from smvae_core.systems.posterior import Mixture, Posterior
from smvae_core.systems.system import System
from smvae_core.systems.terms import Step, Terms


def _network(names: Sequence[str], embedding: int, latent: int, heads: int, memory: bool) -> MixtureOfProducts:
    """Build the posterior of Eq. 2: a mixture with equal weights of the experts."""
    return MixtureOfProducts(names, embedding, latent, most=1)


def _draw(
    settings: ObjectiveConfiguration, available: Tensor, latent: int, names: Sequence[str], generator: torch.Generator
) -> Draws:
    """Let each modality alone explain everything."""
    subsets = singles(available)
    targets = subsets.any(dim=2, keepdim=True) & available
    return Draws.of(subsets, targets, everything(available).expand(len(subsets), -1), latent, generator)


def _terms(network: MixtureOfProducts, step: Step, settings: ObjectiveConfiguration) -> Terms:
    """Compute §3.2: the ELBO of the mixture, with a sample from each of its components (stratified sampling)."""
    mixture: Mixture = network(step.embeddings, step.draws.subsets.any(dim=0))
    z = mixture.components.sample(step.draws.noise)
    prior = Posterior(torch.zeros_like(z), torch.zeros_like(z), mixture.components.attention)
    kl = (mixture.weight * (mixture.log_prob(z) - prior.log_prob(z))).sum(dim=0)
    return Terms(z, mixture.weight, step.beta * kl, kl)


SYSTEM = System(
    settings=ObjectiveConfiguration,
    network=_network,
    draw=_draw,
    terms=_terms,
    memory=NO_MEMORY_IN_MIXTURES,
)

"""MVAE (Wu & Goodman 2018): a product of experts with the prior as one of them, trained on several subsets at once."""

from collections.abc import Sequence

import torch
from pydantic import NonNegativeInt
from torch import Tensor

from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.draws import Draws, each_alone, everything, singles, uniform_subsets
from smvae_core.systems.experts import Experts, ProductOfExperts
from smvae_core.systems.posterior import Posterior
from smvae_core.systems.system import System
from smvae_core.systems.terms import Step, Terms, equal_weights, kl_to_forecast


class MVAESettings(ObjectiveConfiguration):
    """The settings of MVAE's objective.

    Attributes:
        random_subsets: random subsets that train beside everything and each modality alone (k of its Eq. 5).
    """

    random_subsets: NonNegativeInt = 1


def _network(names: Sequence[str], embedding: int, latent: int, heads: int, memory: bool) -> ProductOfExperts:
    """Build the posterior of §2.2: the prior is one more expert."""
    return ProductOfExperts(names, embedding, latent, prior=True, memory=memory)


def _draw(
    settings: MVAESettings, available: Tensor, latent: int, names: Sequence[str], generator: torch.Generator
) -> Draws:
    """Draw k random subsets beside everything and each modality alone; each explains what it saw."""
    drawn = [uniform_subsets(available, generator) for _ in range(settings.random_subsets)]
    subsets = torch.cat([available[None], singles(available), *(subset[None] for subset in drawn)])
    whole = everything(available)
    explains = torch.cat([whole, each_alone(available), whole.expand(len(drawn), -1)])
    return Draws.of(subsets, subsets, explains, latent, generator)


def _terms(network: ProductOfExperts, step: Step, settings: MVAESettings) -> Terms:
    """Compute Eq. 5: the sum of the ELBOs of everything, of each modality, and of k random subsets."""
    draws = step.draws
    experts: Experts = network.experts(step.embeddings)
    posterior = network.product(experts, draws.subsets)
    kl, seen = posterior.kl_to_prior(), draws.subsets.any(dim=2)
    mean_kl = (kl * seen).sum(dim=0) / seen.sum(dim=0).clamp(min=1)
    if step.remembered is not None:
        forecast = Posterior(experts.mean[:, -1], experts.log_variance[:, -1], experts.mean[:, -1])
        kl = kl_to_forecast(posterior, forecast, step)
    return Terms(posterior.sample(draws.noise), equal_weights(draws), step.beta * kl.sum(dim=0), mean_kl)


def _memory(
    settings: MVAESettings, draws: Draws, remembered: Tensor, degraded: Tensor, generator: torch.Generator
) -> Draws:
    """Put memory in every set, where it takes the place of the prior."""
    return draws.with_memory(remembered.expand(len(draws.subsets), -1))


SYSTEM = System(settings=MVAESettings, network=_network, draw=_draw, terms=_terms, memory=_memory)

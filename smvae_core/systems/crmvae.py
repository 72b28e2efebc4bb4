"""CRMVAE (Suzuki 2023): a product of experts without the prior, trained by the coordination-based bound."""

from collections.abc import Sequence

import torch
from torch import Tensor

from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.draws import Draws, each_alone, everything, singles
from smvae_core.systems.experts import ProductOfExperts
from smvae_core.systems.posterior import Posterior
from smvae_core.systems.system import System
from smvae_core.systems.terms import Step, Terms, equal_weights, kl_to_experts, kl_to_forecast


def _network(names: Sequence[str], embedding: int, latent: int, heads: int, memory: bool) -> ProductOfExperts:
    """Build the product of the experts of the set."""
    return ProductOfExperts(names, embedding, latent, prior=False, memory=memory)


def _draw(
    settings: ObjectiveConfiguration, available: Tensor, latent: int, names: Sequence[str], generator: torch.Generator
) -> Draws:
    """Let everything explain everything, and each modality itself."""
    subsets = torch.cat([available[None], singles(available)])
    explains = torch.cat([everything(available), each_alone(available)])
    return Draws.of(subsets, subsets, explains, latent, generator)


def _terms(network: ProductOfExperts, step: Step, settings: ObjectiveConfiguration) -> Terms:
    """Compute the coordination-based bound, with π = 1/(n + 1) for a sample that has n modalities.

    Σ_m π {E_q(z|X) log p(x_m | z) + E_q(z|x_m) log p(x_m | z)} - Σ_m π KL(q(z|X) ‖ q(z|x_m)) - π KL(q(z|X) ‖ p(z)).
    Memory is one of the n and one of the experts, and its expert takes the place of p(z).
    """
    draws = step.draws
    experts = network.experts(step.embeddings)
    posterior = experts.product(draws.subsets)
    joint = Posterior(*(x[0] for x in posterior))
    share = 1.0 / (draws.subsets[0].sum(dim=1) + 1.0)
    kl = reference = joint.kl_to_prior()
    if step.remembered is not None:
        forecast = Posterior(experts.mean[:, -1], experts.log_variance[:, -1], experts.mean[:, -1])
        reference = kl_to_forecast(joint, forecast, step)
    cost = step.beta * share * (kl_to_experts(joint, experts, draws.subsets[0]) + reference)
    return Terms(posterior.sample(draws.noise), share * equal_weights(draws), cost, kl)


def _memory(
    settings: ObjectiveConfiguration, draws: Draws, remembered: Tensor, degraded: Tensor, generator: torch.Generator
) -> Draws:
    """Put memory in the whole set, where it counts as a modality in n."""
    column = torch.zeros(draws.subsets.shape[:2], dtype=torch.bool)
    column[0] = remembered
    return draws.with_memory(column)


SYSTEM = System(settings=ObjectiveConfiguration, network=_network, draw=_draw, terms=_terms, memory=_memory)

"""MVTCAE (Hwang et al. 2021): a product of experts, trained by a bound of the total correlation of the modalities."""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.draws import Draws, everything
from smvae_core.systems.experts import ProductOfExperts
from smvae_core.systems.system import System
from smvae_core.systems.terms import Step, Terms, equal_weights, kl_to_experts


class MVTCAESettings(ObjectiveConfiguration):
    """The settings of MVTCAE's objective.

    Attributes:
        correlation: α of the paper, from 0 (the ELBO of everything) to 1: how much of the KL to the prior gives way to
            the KLs to the experts. 5/6 weighs all KLs alike for five modalities.
    """

    correlation: float = Field(default=5 / 6, ge=0.0, le=1.0)


def _network(names: Sequence[str], embedding: int, latent: int, heads: int, memory: bool) -> ProductOfExperts:
    """Build the product of the experts of the set, without the prior."""
    return ProductOfExperts(names, embedding, latent, prior=False)


def _draw(
    settings: MVTCAESettings, available: Tensor, latent: int, names: Sequence[str], generator: torch.Generator
) -> Draws:
    """Let everything explain everything."""
    return Draws.of(available[None], available[None], everything(available), latent, generator)


def _terms(network: ProductOfExperts, step: Step, settings: MVTCAESettings) -> Terms:
    """Compute the paper's objective, for the n modalities that a sample has.

    (n - α)/n E_q(z|X)[Σ_m log p(x_m | z)] - β [(1 - α) KL(q(z|X) ‖ p(z)) + α/n Σ_m KL(q(z|X) ‖ q(z|x_m))].
    """
    draws, available, alpha = step.draws, step.draws.subsets[0], settings.correlation
    experts = network.experts(step.embeddings)
    joint = experts.product(available)
    count = available.sum(dim=1).clamp(min=1)
    kl = joint.kl_to_prior()
    cost = step.beta * ((1.0 - alpha) * kl + alpha / count * kl_to_experts(joint, experts, available))
    return Terms(joint.sample(draws.noise), (count - alpha) / count * equal_weights(draws), cost, kl)


SYSTEM = System(
    settings=MVTCAESettings,
    network=_network,
    draw=_draw,
    terms=_terms,
    memory="its bound is of what observations have in common, and memory is no observation that it could explain",
)

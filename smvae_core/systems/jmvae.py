"""JMVAE (Suzuki et al. 2016): a joint encoder of everything, and an encoder of each modality that is drawn to it."""

from collections.abc import Sequence

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.draws import Draws, everything
from smvae_core.systems.experts import UnimodalEncoders
from smvae_core.systems.posterior import Posterior, at_least_single, bounded_embeddings, bounded_log_variance
from smvae_core.systems.system import System
from smvae_core.systems.terms import Step, Terms, equal_weights, kl_to_experts


class JMVAESettings(ObjectiveConfiguration):
    """The settings of JMVAE's objective.

    Attributes:
        alpha: weight of the KLs from the joint encoder to the unimodal ones (α of its Eq. 5).
    """

    alpha: NonNegativeFloat = 0.1


class JointAndUnimodal(nn.Module):
    """The encoders of §3.2: one of everything, and one of each modality.

    The whole set has the joint encoder's posterior. The paper has no posterior of a part with two or more modalities:
    here it is the product of their unimodal ones. The joint encoder is a layer over the concatenated embeddings,
    written as a sum so that it does not depend on the order of the modalities. In training it sees what a sample has,
    and zeros for what it lacks.
    """

    def __init__(self, names: Sequence[str], embedding: int, latent: int) -> None:
        super().__init__()
        self.experts = UnimodalEncoders(names, embedding, latent)
        self.hidden = nn.ModuleDict({name: nn.Linear(embedding, embedding, bias=False) for name in names})
        self.bias = nn.Parameter(torch.zeros(embedding))
        self.head = nn.Linear(embedding, 2 * latent)

    def forward(self, embeddings: Tensor, mask: Tensor) -> Posterior:
        """Return the posterior of each row's set. The attention of the whole set is that of its unimodal encoders."""
        product = self.experts(embeddings).product(mask)
        joint = self.joint(embeddings, mask)
        whole = mask.all(dim=-1, keepdim=True)
        return Posterior(
            mean=torch.where(whole, joint.mean, product.mean),
            log_variance=torch.where(whole, joint.log_variance, product.log_variance),
            attention=product.attention,
        )

    def joint(self, embeddings: Tensor, mask: Tensor) -> Posterior:
        """Return the joint encoder's posterior of whatever each row has."""
        embeddings = bounded_embeddings(embeddings)
        hidden: Tensor = self.bias
        for layer, x, present in zip(self.hidden.values(), embeddings.unbind(dim=1), mask.unsqueeze(-1).unbind(dim=-2)):
            hidden = hidden + torch.where(present, layer(x), 0.0)
        mean, log_variance = at_least_single(self.head(nn.functional.silu(hidden))).chunk(2, dim=-1)
        observed = mask.any(dim=-1, keepdim=True)
        return Posterior(
            mean=torch.where(observed, mean, 0.0),
            log_variance=torch.where(observed, bounded_log_variance(log_variance), 0.0),
            attention=mask / mask.sum(dim=-1, keepdim=True).clamp(min=1),
        )


def _network(names: Sequence[str], embedding: int, latent: int, heads: int, memory: bool) -> JointAndUnimodal:
    return JointAndUnimodal(names, embedding, latent)


def _draw(
    settings: JMVAESettings, available: Tensor, latent: int, names: Sequence[str], generator: torch.Generator
) -> Draws:
    """Let everything explain everything."""
    return Draws.of(available[None], available[None], everything(available), latent, generator)


def _terms(network: JointAndUnimodal, step: Step, settings: JMVAESettings) -> Terms:
    """Compute Eq. 5: the ELBO of the joint encoder, less its KLs to the unimodal encoders."""
    draws = step.draws
    joint = network.joint(step.embeddings, draws.subsets[0])
    kl = joint.kl_to_prior()
    apart = kl_to_experts(joint, network.experts(step.embeddings), draws.subsets[0])
    return Terms(joint.sample(draws.noise), equal_weights(draws), step.beta * kl + settings.alpha * apart, kl)


SYSTEM = System(
    settings=JMVAESettings,
    network=_network,
    draw=_draw,
    terms=_terms,
    memory="its joint encoder knows the whole set alone, which hardly any set with memory is",
)

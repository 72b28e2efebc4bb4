"""TELBO (Vedantam et al. 2018): the encoders of JMVAE, each trained by an ELBO of its own (three of two modalities)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.draws import Draws, each_alone, everything, singles
from smvae_core.systems.jmvae import JointAndUnimodal
from smvae_core.systems.posterior import Posterior
from smvae_core.systems.system import System
from smvae_core.systems.terms import Step, Terms, equal_weights


def _network(names: Sequence[str], embedding: int, latent: int, heads: int, memory: bool) -> JointAndUnimodal:
    return JointAndUnimodal(names, embedding, latent)


def _draw(
    settings: ObjectiveConfiguration, available: Tensor, latent: int, names: Sequence[str], generator: torch.Generator
) -> Draws:
    """Let everything explain everything, and each modality itself."""
    subsets = torch.cat([available[None], singles(available)])
    explains = torch.cat([everything(available), each_alone(available)])
    return Draws.of(subsets, subsets, explains, latent, generator)


def _terms(network: JointAndUnimodal, step: Step, settings: ObjectiveConfiguration) -> Terms:
    """Compute the sum of the ELBOs of the joint encoder and of each unimodal encoder.

    The paper first trains the joint ELBO, then the unimodal encoders with the decoders fixed. Here both happen at once:
    the unimodal ELBOs do not train the decoders. They do train the embedding networks, which the encoders share.
    """
    draws, available = step.draws, step.draws.subsets[0]
    joint = network.joint(step.embeddings, available)
    experts = network.experts(step.embeddings)
    each = Posterior(experts.mean.transpose(0, 1), experts.log_variance.transpose(0, 1), available)
    kl = joint.kl_to_prior()
    unimodal = torch.where(available.T, each.kl_to_prior(), 0.0).sum(dim=0)
    z = torch.cat([joint.sample(draws.noise[:1]), each.sample(draws.noise[1:])])
    frozen = tuple(range(1, len(z)))
    return Terms(z, equal_weights(draws), step.beta * (kl + unimodal), kl, frozen)


SYSTEM = System(
    settings=ObjectiveConfiguration,
    network=_network,
    draw=_draw,
    terms=_terms,
    memory="its joint encoder knows the whole set alone, which hardly any set with memory is",
)

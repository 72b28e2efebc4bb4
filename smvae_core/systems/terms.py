"""Where the systems' objectives differ: the z's that explain the observations, and what they cost.

Of every system the bound of a sample is Σ_t w_t Σ_m λ_m log p(x_m | z_t) - cost, over the terms t that `draws` has.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.draws import Draws
from smvae_core.systems.experts import Experts
from smvae_core.systems.posterior import Posterior, gaussian_kl
from smvae_core.systems.smvae import System


class Terms(NamedTuple):
    """One sample of each term's posterior.

    Attributes:
        z: (T, B, L).
        weight: w of each term, (T, B).
        cost: what the bound loses by the KLs, (B,), their weights in it.
        kl: KL of the posteriors to the prior, (B,), its mean over the terms.
    """

    z: Tensor
    weight: Tensor
    cost: Tensor
    kl: Tensor


def terms_of(
    system: System,
    fusion: nn.Module,
    embeddings: Tensor,
    draws: Draws,
    beta: float,
    config: ObjectiveConfiguration,
) -> Terms:
    """The terms of the system's bound.

    Args:
        fusion: of the model.
        embeddings: (B, M, d), of everything that any term sees.
        draws: on the device of the embeddings.
        beta: weight of the KLs now.
    """
    return _TERMS[system](fusion, embeddings, draws, beta, config)


def _smvae(fusion: nn.Module, embeddings: Tensor, draws: Draws, beta: float, config: ObjectiveConfiguration) -> Terms:
    """Eq. 3, and the pull at the end of §3.2."""
    posterior = fusion(embeddings, draws.subsets[0])
    kl, sigma = posterior.kl_to_prior(), (0.5 * posterior.log_variance).exp()
    pull = (posterior.mean.square() + (sigma - 1.0).square()).sum(dim=1)
    return Terms(posterior.sample(draws.noise), _ones(draws), beta * kl + config.pull * pull, kl)


def _mvae(fusion: nn.Module, embeddings: Tensor, draws: Draws, beta: float, config: ObjectiveConfiguration) -> Terms:
    """Wu & Goodman 2018, Eq. 5: the sum of the ELBOs of everything, of each modality, and of k random subsets."""
    posterior = fusion.experts(embeddings).product(draws.subsets, prior=True)
    kl, has = posterior.kl_to_prior(), draws.subsets.any(dim=2)
    return Terms(posterior.sample(draws.noise), _ones(draws), beta * kl.sum(dim=0), _mean(kl, has))


def _mmvae(fusion: nn.Module, embeddings: Tensor, draws: Draws, beta: float, config: ObjectiveConfiguration) -> Terms:
    """Shi et al. 2019, §3.2: the ELBO of the mixture, a sample from each of its components (stratified sampling)."""
    mixture = fusion(embeddings, draws.subsets.any(dim=0))
    z = mixture.components.sample(draws.noise)
    prior = Posterior(torch.zeros_like(z), torch.zeros_like(z), mixture.components.attention)
    kl = (mixture.weight * (mixture.log_prob(z) - prior.log_prob(z))).sum(dim=0)
    return Terms(z, mixture.weight, beta * kl, kl)


def _mopoe(fusion: nn.Module, embeddings: Tensor, draws: Draws, beta: float, config: ObjectiveConfiguration) -> Terms:
    """Sutter et al. 2021, Eq. 6: the mean over all subsets of their ELBOs, without bias by one that is drawn."""
    posterior = fusion.experts(embeddings).product(draws.subsets)
    kl = posterior.kl_to_prior()[0]
    return Terms(posterior.sample(draws.noise), _ones(draws), beta * kl, kl)


def _jmvae(fusion: nn.Module, embeddings: Tensor, draws: Draws, beta: float, config: ObjectiveConfiguration) -> Terms:
    """Suzuki et al. 2016, Eq. 5: the ELBO of the joint encoder, and its KLs to the unimodal ones."""
    joint = fusion.joint(embeddings, draws.subsets[0])
    kl = joint.kl_to_prior()
    apart = _apart(joint, fusion.experts(embeddings), draws.subsets[0])
    return Terms(joint.sample(draws.noise), _ones(draws), beta * kl + config.alpha * apart, kl)


def _crmvae(fusion: nn.Module, embeddings: Tensor, draws: Draws, beta: float, config: ObjectiveConfiguration) -> Terms:
    """Suzuki 2023: with π = 1/(n + 1) of the n modalities that a sample has,

    Σ_m π {E_q(z|X) log p(x_m | z) + E_q(z|x_m) log p(x_m | z)} - Σ_m π KL(q(z|X) ‖ q(z|x_m)) - π KL(q(z|X) ‖ p(z)).
    """
    experts = fusion.experts(embeddings)
    posterior = experts.product(draws.subsets)
    joint = Posterior(*(x[0] for x in posterior))
    share = 1.0 / (draws.subsets[0].sum(dim=1) + 1.0)
    kl = joint.kl_to_prior()
    cost = beta * share * (_apart(joint, experts, draws.subsets[0]) + kl)
    return Terms(posterior.sample(draws.noise), share * _ones(draws), cost, kl)


def _apart(joint: Posterior, experts: Experts, available: Tensor) -> Tensor:
    """Σ_m KL(joint ‖ q(z | x_m)) over the modalities that each sample has, (B,)."""
    each = Posterior(experts.mean.transpose(0, 1), experts.log_variance.transpose(0, 1), available)
    return torch.where(available.T, gaussian_kl(joint, each), 0.0).sum(dim=0)


def _mean(values: Tensor, has: Tensor) -> Tensor:
    return (values * has).sum(dim=0) / has.sum(dim=0).clamp(min=1)


def _ones(draws: Draws) -> Tensor:
    return torch.ones_like(draws.noise[..., 0])


_TERMS: dict[System, Callable[[nn.Module, Tensor, Draws, float, ObjectiveConfiguration], Terms]] = {
    "smvae": _smvae,
    "mvae": _mvae,
    "mmvae": _mmvae,
    "mopoe": _mopoe,
    "jmvae": _jmvae,
    "crmvae": _crmvae,
}

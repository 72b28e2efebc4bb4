"""The common form of all bounds: Σ_t w_t Σ_m λ_m log p(x_m | z_t) - cost, over the terms t that a system draws.

`training/objective.py` decodes the z's and adds up. Which z's there are and what they cost is the system's.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from smvae_core.systems.draws import Draws
from smvae_core.systems.experts import Experts
from smvae_core.systems.posterior import Posterior, gaussian_kl


class Step(NamedTuple):
    """The inputs of the terms in one training step.

    Attributes:
        embeddings: (B, M, d), of everything that any term sees, as training corrupted it.
        clean: (B, M, d), the same without corruption, for the terms in `draws.clean`.
        draws: on the device of the embeddings.
        beta: weight of the KLs now.
        ramp: from 0 to 1 over the first steps of a run; see the settings of SMVAE.
        remembered: of a model with memory, which samples remember something, (B,), bool. Embeddings and subsets then
            have one more column, that of memory.
    """

    embeddings: Tensor
    clean: Tensor
    draws: Draws
    beta: float | Tensor
    ramp: float | Tensor
    remembered: Tensor | None = None


class Terms(NamedTuple):
    """One sample of each term's posterior.

    Attributes:
        z: (T, B, L).
        weight: w of each term, (T, B).
        cost: the sum of the KLs with their weights, which the bound loses, (B,).
        kl: KL of the posteriors to the prior, (B,), mean over the terms.
        frozen: terms that do not train the decoders.
    """

    z: Tensor
    weight: Tensor
    cost: Tensor
    kl: Tensor
    frozen: tuple[int, ...] = ()


def kl_to_experts(joint: Posterior, experts: Experts, available: Tensor) -> Tensor:
    """Return Σ_m KL(joint ‖ q(z | x_m)) over the modalities that each sample has, (B,).

    Args:
        joint: one Gaussian a sample, (B, L).
        available: (B, M), bool.
    """
    each = Posterior(experts.mean.transpose(0, 1), experts.log_variance.transpose(0, 1), available)
    return torch.where(available.T, gaussian_kl(joint, each), 0.0).sum(dim=0)


def kl_to_forecast(posterior: Posterior, forecast: Posterior, step: Step) -> Tensor:
    """Return the KL to the forecast q(z|{h}) where a sample remembers something, and to N(0, I) elsewhere, (..., B).

    While the ramp grows, the forecast is drawn to the posterior, but the posterior still to N(0, I): a memory that has
    learned nothing yet would spoil it.

    Args:
        posterior: (..., B, L).
        forecast: (B, L).
    """
    assert step.remembered is not None, "only models with memory have a forecast"
    prior, ramp = posterior.kl_to_prior(), step.ramp
    learning = gaussian_kl(fixed(posterior), forecast) + prior
    kl = ramp * gaussian_kl(posterior, forecast) + (1.0 - ramp) * learning
    return torch.where(step.remembered, kl, prior)


def fixed(posterior: Posterior) -> Posterior:
    """Return sg q: the same Gaussian, as a constant."""
    return Posterior(*(x.detach() for x in posterior))


def equal_weights(draws: Draws) -> Tensor:
    """Return a weight of 1 for each term and sample, (T, B)."""
    return torch.ones_like(draws.noise[..., 0])

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
    """

    embeddings: Tensor
    clean: Tensor
    draws: Draws
    beta: float | Tensor
    ramp: float | Tensor


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


def equal_weights(draws: Draws) -> Tensor:
    """Return a weight of 1 for each term and sample, (T, B)."""
    return torch.ones_like(draws.noise[..., 0])

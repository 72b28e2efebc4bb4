"""The posterior q(z | X_s) of the latent given a set of observations: one Gaussian, or a mixture of several.

All tensors may have further dimensions before the last two, which are the rows B of a batch and the latent L.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

LOG_VARIANCE = (-9.0, 5.0)
"""The bounds of log σ² of every Gaussian that a network gives. The shipped model has -4.7 to 3.0 on simulated logs."""
EMBEDDING = 1e3
"""The largest absolute value of an embedding that a posterior network takes. The shipped model stays below 120."""


class Posterior(NamedTuple):
    """A diagonal Gaussian.

    Attributes:
        mean: μ, (..., B, L).
        log_variance: log σ², (..., B, L).
        attention: (..., B, M), the weight of each modality; 0 where absent, each row sums to 1, or to 0 for the empty
            set. Set attention: its weights, averaged over heads. A product: each expert's part of the precision,
            averaged over the latent. A mixture: the mean over its components.
    """

    mean: Tensor
    log_variance: Tensor
    attention: Tensor

    def sample(self, noise: Tensor | None = None, choice: Tensor | None = None) -> Tensor:
        """Return z = μ + σ ⊙ ε (Eq. 6 of the SMVAE paper), of the shape of `noise`.

        Args:
            noise: ε, standard normal, (..., B, L); drawn with the mean's shape where it is not given.
            choice: uniform in [0, 1), (..., B), chooses the component of a mixture; a Gaussian ignores it.
        """
        noise = torch.randn_like(self.mean) if noise is None else noise
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log q(z | X_s) of z (..., B, L): (..., B), in nats."""
        square = (z - self.mean).square() * (-self.log_variance).exp()
        return -0.5 * (square + self.log_variance + math.log(2 * math.pi)).sum(dim=-1)

    def kl_to_prior(self) -> Tensor:
        """Return KL(q ‖ N(0, I)) in closed form, (..., B), in nats.

        A mixture returns the mean over its components, an upper bound of its own KL (Eq. 6 of the MoPoE paper).
        """
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance).sum(dim=-1)


def at_least_single(x: Tensor) -> Tensor:
    """Return half precision as single, as variances, densities and KLs need it; single and double as they are."""
    return x if x.dtype == torch.float64 else x.float()


def bounded_embeddings(embeddings: Tensor) -> Tensor:
    """Return embeddings within `EMBEDDING`, 0 in place of NaN: whatever a sensor delivers, the latent is finite."""
    return torch.where(embeddings == embeddings, embeddings, 0.0).clamp(-EMBEDDING, EMBEDDING)


def bounded_log_variance(log_variance: Tensor) -> Tensor:
    """Return log σ² within `LOG_VARIANCE`."""
    return log_variance.clamp(*LOG_VARIANCE)


def gaussian_kl(q: Posterior, p: Posterior) -> Tensor:
    """Return KL(q ‖ p) of two Gaussians in closed form, (..., B), in nats."""
    ratio = q.log_variance - p.log_variance
    square = (q.mean - p.mean).square() * (-p.log_variance).exp()
    return 0.5 * (ratio.exp() + square - 1.0 - ratio).sum(dim=-1)


class Mixture(Posterior):
    """A mixture of Gaussians with equal weights; each row has its own selection of components.

    `mean` and `log_variance` are the moments of the mixture, those of the Gaussian that is nearest in
    KL(mixture ‖ Gaussian).

    Attributes:
        components: K Gaussians, (K, B, L).
        weight: weights of the components, (K, B); 0 for a component that a row does not have.
    """

    components: Posterior
    weight: Tensor

    @classmethod
    def of(cls, components: Posterior, present: Tensor) -> "Mixture":
        """Return the mixture in which each row has the `components` (K, B, ...) that are `present` (K, B), bool."""
        weight = present.to(components.mean.dtype) / present.sum(dim=0)
        each = weight[..., None]
        mean = (each * components.mean).sum(dim=0)
        variance = (each * (components.log_variance.exp() + (components.mean - mean).square())).sum(dim=0)
        mixture = cls(mean, variance.log(), (each * components.attention).sum(dim=0))
        mixture.components, mixture.weight = components, weight
        return mixture

    def sample(self, noise: Tensor | None = None, choice: Tensor | None = None) -> Tensor:
        """Return samples of the mixture itself, not of its moments; arguments as of `Posterior.sample`."""
        noise = torch.randn_like(self.mean) if noise is None else noise
        choice = torch.rand(noise.shape[:-1], device=noise.device) if choice is None else choice
        # Rounding may leave the last cumulative sum below 1.
        reached = (self.weight.cumsum(dim=0) * (1 + 1e-6)).unsqueeze(-1) > choice.reshape(-1, len(self.mean)).T
        taken = reached.to(torch.uint8).argmax(dim=0).T.reshape(choice.shape)
        row = torch.arange(len(self.mean), device=taken.device).expand_as(taken)
        mean, log_variance = self.components.mean[taken, row], self.components.log_variance[taken, row]
        return mean + (0.5 * log_variance).exp() * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log density of the mixture itself, not of its moments, as `Posterior.log_prob`."""
        each = self.components.log_prob(z.unsqueeze(-3))
        return (each + self.weight.log()).logsumexp(dim=-2)

    def kl_to_prior(self) -> Tensor:
        """Return the mean over the components of their KL to the prior, as `Posterior.kl_to_prior`."""
        return (self.weight * self.components.kl_to_prior()).sum(dim=0)

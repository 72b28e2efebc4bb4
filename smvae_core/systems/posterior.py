"""q(z | X_s): what a set of observations says of the latent, as one Gaussian or as a mixture of them.

Everything takes any number of dimensions before the last two, which are the rows B of a batch and the latent L.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Posterior(NamedTuple):
    """A diagonal Gaussian.

    Attributes:
        mean: μ, (..., B, L).
        log_variance: log σ², (..., B, L).
        attention: (..., B, M), how much each modality weighed; 0 where absent, each row sums to 1, or to 0 for the
            empty set. For set attention the weights, averaged over heads; for a product the shares of the experts in
            the precision, averaged over the latent; for a mixture the mean of that over the components.
    """

    mean: Tensor
    log_variance: Tensor
    attention: Tensor

    def sample(self, noise: Tensor | None = None, choice: Tensor | None = None) -> Tensor:
        """Z = μ + σ ⊙ ε (Eq. 6 of the SMVAE paper), of the shape of `noise`.

        Args:
            noise: ε, standard normal, (..., B, L); one of the mean's shape is drawn where it is not given.
            choice: uniform in [0, 1), (..., B): which component of a mixture is taken. A Gaussian has but one.
        """
        noise = torch.randn_like(self.mean) if noise is None else noise
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """Log q(z | X_s) of z (..., B, L): (..., B), in nats."""
        square = (z - self.mean).square() * (-self.log_variance).exp()
        return -0.5 * (square + self.log_variance + math.log(2 * math.pi)).sum(dim=-1)

    def kl_to_prior(self) -> Tensor:
        """KL(q ‖ N(0, I)) in closed form, (..., B), in nats. Of a mixture: the mean over its components, which bounds
        its KL from above (Eq. 6 of the MoPoE paper).
        """
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance).sum(dim=-1)


def at_least_single(x: Tensor) -> Tensor:
    """Half precision as single: variances, densities and KLs need it. What is single or double stays as it is."""
    return x if x.dtype == torch.float64 else x.float()


def gaussian_kl(q: Posterior, p: Posterior) -> Tensor:
    """KL(q ‖ p) of two Gaussians in closed form, (..., B), in nats."""
    ratio = q.log_variance - p.log_variance
    square = (q.mean - p.mean).square() * (-p.log_variance).exp()
    return 0.5 * (ratio.exp() + square - 1.0 - ratio).sum(dim=-1)


class Mixture(Posterior):
    """A mixture of Gaussians with equal weights, other ones for each row. As a tuple it is the moments of the mixture:
    `mean` and `log_variance` are those of the Gaussian that is nearest in KL(mixture ‖ Gaussian).

    Attributes:
        components: K Gaussians, (K, B, L).
        weight: of each, (K, B); 0 for a component that a row does not have.
    """

    components: Posterior
    weight: Tensor

    @classmethod
    def of(cls, components: Posterior, present: Tensor) -> "Mixture":
        """The mixture of `components` (K, B, ...) of which each row has those `present` (K, B), bool, at least one."""
        weight = present.to(components.mean.dtype) / present.sum(dim=0)
        each = weight[..., None]
        mean = (each * components.mean).sum(dim=0)
        variance = (each * (components.log_variance.exp() + (components.mean - mean).square())).sum(dim=0)
        mixture = cls(mean, variance.log(), (each * components.attention).sum(dim=0))
        mixture.components, mixture.weight = components, weight
        return mixture

    def sample(self, noise: Tensor | None = None, choice: Tensor | None = None) -> Tensor:
        """As `Posterior.sample`, of the mixture itself, not of its moments."""
        noise = torch.randn_like(self.mean) if noise is None else noise
        choice = torch.rand(noise.shape[:-1], device=noise.device) if choice is None else choice
        # Rounding may leave the last sum below 1.
        reached = (self.weight.cumsum(dim=0) * (1 + 1e-6)).unsqueeze(-1) > choice.reshape(-1, len(self.mean)).T
        taken = reached.to(torch.uint8).argmax(dim=0).T.reshape(choice.shape)
        row = torch.arange(len(self.mean), device=taken.device).expand_as(taken)
        mean, log_variance = self.components.mean[taken, row], self.components.log_variance[taken, row]
        return mean + (0.5 * log_variance).exp() * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """As `Posterior.log_prob`, of the mixture itself, not of its moments."""
        each = self.components.log_prob(z.unsqueeze(-3))
        return (each + self.weight.log()).logsumexp(dim=-2)

    def kl_to_prior(self) -> Tensor:
        """As `Posterior.kl_to_prior`."""
        return (self.weight * self.components.kl_to_prior()).sum(dim=0)

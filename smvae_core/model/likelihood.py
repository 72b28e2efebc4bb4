"""The likelihoods p(x_m | z), from a decoder's output.

A decoder gives one number for each entry of its modality (`parameters`): logits for Bernoulli and categorical, the
location for normal and Laplace, whose scale is the modality's own and fixed.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from smvae_core.modality import Modality

# Most entries of pairs of parameters and observations that are held in memory at once.
_COMPARED = 2**23
# torch annotates no types here.
_broadcast: Callable[..., tuple[Tensor, ...]] = torch.broadcast_tensors


def log_likelihood(modality: Modality, x: Tensor, parameters: Tensor) -> Tensor:
    """Return log p(x | z), summed over the entries of each sample.

    Args:
        modality: gives the kind of likelihood and its scale.
        x: observations (B, *shape), float32, model units. Bernoulli takes [0, 1], not only {0, 1}.
        parameters: decoder output (..., B, *shape), or anything that broadcasts with x.

    Returns:
        (..., B), in nats.
    """
    entries = -len(modality.shape)
    return _LOG_DENSITY[modality.likelihood](x.flatten(entries), parameters.flatten(entries), modality.scale)


def log_likelihood_of_pairs(modality: Modality, x: Tensor, parameters: Tensor) -> Tensor:
    """Return log p(x | z) of N observations (N, *shape) with each of S parameters (S, *shape): (S, N), in nats."""
    if modality.likelihood in _LINEAR:
        factor, constant = _LINEAR[modality.likelihood](parameters.flatten(1))
        return factor @ x.flatten(1).T + constant[:, None]
    together = max(1, _COMPARED // parameters.numel())
    parts = [x[start : start + together] for start in range(0, len(x), together)]
    return torch.cat([log_likelihood(modality, part, parameters[:, None]) for part in parts], dim=1)


def expectation(modality: Modality, parameters: Tensor) -> Tensor:
    """Return E[x | z] from the decoder's output, same shape, model units."""
    if modality.likelihood == "bernoulli":
        return parameters.sigmoid()
    if modality.likelihood == "categorical":
        return parameters.softmax(dim=-1)
    return parameters


def _bernoulli(x: Tensor, logits: Tensor, _: float) -> Tensor:
    logits, x = _broadcast(logits, x)
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=-1)


def _normal(x: Tensor, location: Tensor, scale: float) -> Tensor:
    constant = 0.5 * math.log(2 * math.pi) + math.log(scale)
    return -(0.5 * ((x - location) / scale).square() + constant).sum(dim=-1)


def _laplace(x: Tensor, location: Tensor, scale: float) -> Tensor:
    return -((x - location).abs() / scale + math.log(2 * scale)).sum(dim=-1)


def _categorical(x: Tensor, logits: Tensor, _: float) -> Tensor:
    return (x * F.log_softmax(logits, dim=-1)).sum(dim=-1)


def _linear_bernoulli(logits: Tensor) -> tuple[Tensor, Tensor]:
    return logits, -F.softplus(logits).sum(dim=-1)


def _linear_categorical(logits: Tensor) -> tuple[Tensor, Tensor]:
    return F.log_softmax(logits, dim=-1), logits.new_zeros(len(logits))


_LOG_DENSITY: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "bernoulli": _bernoulli,
    "normal": _normal,
    "laplace": _laplace,
    "categorical": _categorical,
}
# Likelihoods whose log p is linear in x: parameters to the factor of x and the constant. All pairs are then one product
# of matrices.
_LINEAR: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "bernoulli": _linear_bernoulli,
    "categorical": _linear_categorical,
}

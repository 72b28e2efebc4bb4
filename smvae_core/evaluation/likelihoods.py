"""log p(x), log p(x, y) and log p(x | y) of a model by importance sampling (§4.1 of the SMVAE paper).

>>> joint = log_marginal(model, batch, ["image", "label"])          # 1,000 samples of q(z | image, label) a data point
>>> joint.value.mean(), joint.error                                 # nats
>>> log_likelihoods(model, batch, ["image"], ["label"])             # all three at once, from the same samples

This works for any modalities and any system: a mixture is sampled from, and weighed by, its exact density. Many z are
decoded in one call, and sums are streamed, so that memory does not grow with the samples.
"""

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from smvae_core.errors import SMVAEError
from smvae_core.inference.decoding import ModalityDecoder
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.subsets import subset_mask
from smvae_core.systems.posterior import Posterior

SAMPLES = 1000
PRIOR_SAMPLES = 5000

# Numbers of z in one call of a decoder: on a processor what they become should stay in its caches.
_DECODED = {"cpu": 64, "cuda": 4096}
_ENCODED = 256


class EstimatorError(SMVAEError):
    """A likelihood that the model or the batch cannot give."""


class Estimate(NamedTuple):
    """The estimate for N data points, float64, on the model's device.

    Attributes:
        value: the logarithm of the estimated likelihood, (N,), in nats. The likelihood is without bias; its logarithm
            is low by about error² / 2.
        error: standard error of `value`, (N,), by the spread of the importance weights.
    """

    value: Tensor
    error: Tensor


class LogLikelihoods(NamedTuple):
    """Marginal log p(x), joint log p(x, y) and conditional log p(x | y) of the same data points and samples."""

    marginal: Estimate
    joint: Estimate
    conditional: Estimate


def log_marginal(
    model: MultimodalVAE,
    batch: Batch,
    targets: Sequence[str],
    proposal: Sequence[str] | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Estimate:
    """Estimate log p of the target modalities together: log mean_s p(targets | z_s) p(z_s) / q(z_s | proposal).

    Args:
        batch: observations (N, *shape), each sample with all that is named.
        proposal: modalities that the importance distribution sees; by default the targets. An empty one is the prior.
        samples: importance samples for each data point.
        seed: the same seed gives the same figures on the same device.

    Raises:
        EstimatorError: an unknown modality, one that the batch lacks, one named twice, or none; no data point; no
            sample.
        BatchError: the batch does not fit the model.
    """
    return _importance(model, batch, [targets], targets if proposal is None else proposal, samples, seed)[0]


def log_conditional(
    model: MultimodalVAE,
    batch: Batch,
    targets: Sequence[str],
    given: Sequence[str],
    proposal: Sequence[str] | None = None,
    samples: int = SAMPLES,
    prior_samples: int = PRIOR_SAMPLES,
    seed: int = 0,
) -> Estimate:
    """Estimate log p(targets | given): the joint, by importance sampling, less log p(given), by samples of the prior.

    The samples of the prior are the same for all data points, and each distinct observation is compared once. Where
    `given` is continuous and precise, few of these samples come near it, and log p(given) comes out too low; then the
    difference of two `log_marginal` is the better estimate.

    Args and errors: as `log_marginal`; by default the proposal sees targets and given.
    """
    return log_likelihoods(model, batch, targets, given, proposal, samples, prior_samples, seed).conditional


def log_likelihoods(
    model: MultimodalVAE,
    batch: Batch,
    x: Sequence[str],
    y: Sequence[str],
    proposal: Sequence[str] | None = None,
    samples: int = SAMPLES,
    prior_samples: int = PRIOR_SAMPLES,
    seed: int = 0,
) -> LogLikelihoods:
    """Estimate log p(x), log p(x, y) and log p(x | y) from the same samples of one proposal, by default q(z | x, y).

    For discrete y the estimates keep the order of the true values, whatever the model and the samples. log p(x, y) is
    at most log p(x), since each of its weights is a weight of log p(x) times p(y | z) ≤ 1. log p(x | y) is at least
    log p(x, y), since the estimate of p(y) is a mean of such probabilities.

    Args and errors: as `log_marginal`.
    """
    both = [*x, *y]
    marginal, joint = _importance(model, batch, [x, both], both if proposal is None else proposal, samples, seed)
    prior = _from_prior(model, batch, y, prior_samples, seed)
    conditional = Estimate(joint.value - prior.value, (joint.error.square() + prior.error.square()).sqrt())
    return LogLikelihoods(marginal, joint, conditional)


class _LogMeanExp:
    """The logarithm of a mean of exponentials, and its standard error, for numbers that come in blocks."""

    def __init__(self) -> None:
        self.count = 0
        self.first = self.second = torch.tensor(-math.inf, dtype=torch.float64)

    def add(self, log_weight: Tensor) -> None:
        """Add the logarithms of S weights of each data point, (S, N)."""
        log_weight = log_weight.double()
        self.count += len(log_weight)
        self.first = torch.logaddexp(self.first.to(log_weight.device), log_weight.logsumexp(dim=0))
        self.second = torch.logaddexp(self.second.to(log_weight.device), (2 * log_weight).logsumexp(dim=0))

    def estimate(self) -> Estimate:
        """Return the estimate; its error by the delta method: the standard error of the mean, relative to the mean."""
        spread = (self.second - 2 * self.first).exp() - 1 / self.count
        error = (spread.clamp(min=0.0) * self.count / max(self.count - 1, 1)).sqrt()
        return Estimate(self.first - math.log(self.count), error)


@torch.inference_mode()
def _importance(
    model: MultimodalVAE,
    batch: Batch,
    targets: Sequence[Sequence[str]],
    proposal: Sequence[str],
    samples: int,
    seed: int,
) -> list[Estimate]:
    """Estimate the likelihood of each set of targets, all from the same z."""
    for some in targets:
        _named_once(some)
    names = list(dict.fromkeys(name for some in targets for name in some))
    count = _checked(model, batch, [*names, *proposal], samples)
    device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
    generator = torch.Generator(device).manual_seed(seed)
    training = model.training
    model.eval()
    parts = []
    decoders = _decoders(model, names)
    together = min(_ENCODED, _DECODED[device.type])
    for begin in range(0, count, together):
        size = min(together, count - begin)
        rows = {name: batch[name][begin : begin + size].to(device) for name in {*names, *proposal}}
        mask = subset_mask(model.names, [tuple(proposal)]).expand(size, -1)
        posterior = model.posterior({name: rows[name] for name in proposal}, mask)
        seen = {name: decoder.laid_out(rows[name]) for name, decoder in decoders.items()}
        sums = [_LogMeanExp() for _ in targets]
        for drawn in _blocks(samples, max(1, _DECODED[device.type] // size)):
            shape = (drawn, size, model.configuration.latent)
            noise = torch.randn(shape, device=device, dtype=dtype, generator=generator)
            z = posterior.sample(noise, torch.rand(shape[:2], device=device, generator=generator))
            log_ratio = _log_prior(z) - posterior.log_prob(z)
            log_p = {name: _log_p(decoder, seen[name], z) for name, decoder in decoders.items()}
            for some, total in zip(targets, sums):
                total.add(log_ratio + reduce(torch.add, (log_p[name] for name in some)))
        parts.append([total.estimate() for total in sums])
    model.train(training)
    return [Estimate(*(torch.cat(x) for x in zip(*of_one))) for of_one in zip(*parts)]


@torch.inference_mode()
def _from_prior(model: MultimodalVAE, batch: Batch, names: Sequence[str], samples: int, seed: int) -> Estimate:
    """Estimate log E_{p(z)} p(names | z), once for each distinct observation."""
    _named_once(names)
    count = _checked(model, batch, names, samples)
    device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
    flat = torch.cat([batch[name].reshape(count, -1) for name in names], dim=1)
    _, which = flat.unique(dim=0, return_inverse=True)
    first = torch.full((int(which.max()) + 1,), count).scatter_reduce(0, which.cpu(), torch.arange(count), "amin")
    distinct = {name: batch[name][first.to(batch[name].device)].to(device) for name in names}
    # Other samples than those of the joint, which are drawn from the same seed.
    generator = torch.Generator(device).manual_seed(seed + 2**31)
    training = model.training
    model.eval()
    total, decoders = _LogMeanExp(), _decoders(model, names)
    seen = {name: decoder.laid_out(distinct[name]) for name, decoder in decoders.items()}
    for drawn in _blocks(samples, _DECODED[device.type]):
        z = torch.randn(drawn, model.configuration.latent, device=device, dtype=dtype, generator=generator)
        log_p = (of.log_likelihood_of_pairs(seen[name], of.parameters(z)) for name, of in decoders.items())
        total.add(reduce(torch.add, log_p))
    model.train(training)
    return Estimate(*(x[which.to(device)] for x in total.estimate()))


def _decoders(model: MultimodalVAE, names: Sequence[str]) -> dict[str, ModalityDecoder]:
    phases = next(model.parameters()).device.type == "cpu"
    return {name: ModalityDecoder(model, name, phases) for name in names}


def _log_p(decoder: ModalityDecoder, x: Tensor, z: Tensor) -> Tensor:
    """Return log p(x_m | z) for z (S, N, L): (S, N)."""
    parameters = decoder.parameters(z.flatten(0, 1))
    return decoder.log_likelihood(x, parameters.unflatten(0, z.shape[:2]))


def _log_prior(z: Tensor) -> Tensor:
    zero = torch.zeros_like(z)
    return Posterior(zero, zero, zero).log_prob(z)


def _blocks(count: int, most: int) -> list[int]:
    return [min(most, count - begin) for begin in range(0, count, most)]


def _named_once(names: Sequence[str]) -> None:
    if not names or len(set(names)) < len(names):
        raise EstimatorError(f"expected the likelihood of at least one modality, each named once, found {list(names)}")


def _checked(model: MultimodalVAE, batch: Batch, names: Sequence[str], samples: int) -> int:
    """Return the number of data points in the batch, after checking names and shapes."""
    for name in names:
        if name not in model.names:
            raise EstimatorError(f"expected modalities among {list(model.names)}, found '{name}'")
        if name not in batch:
            raise EstimatorError(f"expected observations of {name}, found a batch of {sorted(batch)}")
    count = len(batch[names[0]])
    if not count or samples < 1:
        raise EstimatorError(f"expected at least one data point and one sample of each, found {count} and {samples}")
    # A batch of another shape would broadcast, and give the likelihood of something else.
    model.check({name: batch[name] for name in names}, count)
    return count

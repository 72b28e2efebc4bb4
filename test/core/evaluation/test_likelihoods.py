"""Importance-sampled likelihoods against a model whose likelihoods are known in closed form."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from smvae_core.evaluation import likelihoods as estimator
from smvae_core.evaluation.likelihoods import EstimatorError, log_conditional, log_likelihoods, log_marginal
from smvae_core.modality import Modality
from smvae_core.model import likelihood
from smvae_core.model.vae import Batch, BatchError, ModelConfiguration, MultimodalVAE
from smvae_core.preprocessing import Vector
from smvae_core.systems.registry import SYSTEMS

SIZES = {"x": 4, "y": 2, "v": 3}
SCALES = {"x": 1.0, "y": 0.8, "v": 1.5}


@pytest.fixture(autouse=True)
def large_blocks(monkeypatch) -> None:
    """Decode many z in one call, which is right for vectors; blocks of other sizes have a test of their own."""
    monkeypatch.setitem(estimator._DECODED, "cpu", 8192)


def vector(name: str, likelihood: str, size: int, scale: float = 1.0) -> Modality:
    return Modality(
        name=name,
        source=name,
        preprocessing=Vector(size=size),
        network="vector",
        likelihood=likelihood,
        scale=scale,
        weight=7.0,
    )


@pytest.fixture(params=SYSTEMS)
def linear(request) -> MultimodalVAE:
    """Linear decoders and normal likelihoods; untrained encoders, so that the proposal is not the posterior."""
    torch.manual_seed(0)
    modalities = tuple(vector(name, "normal", size, SCALES[name]) for name, size in SIZES.items())
    model = MultimodalVAE(ModelConfiguration(system=request.param, size="tiny", latent=2, modalities=modalities))
    model.decoders = nn.ModuleDict({name: nn.Linear(2, size) for name, size in SIZES.items()})
    # Wider than the posterior, or few samples would come to where the likelihood is.
    for name, parameter in model.fusion.named_parameters():
        if name.endswith(("head.bias", "x.bias", "y.bias", "v.bias")):
            parameter.data[2:] += 1.5
        elif name == "log_variance.bias":
            parameter.data += 1.3
    return model


@pytest.fixture
def data(linear) -> Batch:
    with torch.no_grad():
        z = torch.randn(40, 2)
        return {
            name: decode(z) + SCALES[name] * torch.randn(40, SIZES[name]) for name, decode in linear.decoders.items()
        }


def exact(model: MultimodalVAE, data: Batch, *names: str) -> Tensor:
    """x ~ N(b, W Wᵀ + σ² I), whatever is named side by side."""
    weight = torch.cat([model.decoders[name].weight for name in names]).double()
    bias = torch.cat([model.decoders[name].bias for name in names]).double()
    noise = torch.cat([torch.full((SIZES[name],), SCALES[name] ** 2) for name in names]).double()
    normal = MultivariateNormal(bias, weight @ weight.T + noise.diag())
    return normal.log_prob(torch.cat([data[name] for name in names], dim=1).double()).detach()


def assert_within_three_errors(found: estimator.Estimate, expected: Tensor) -> None:
    assert (found.error < 0.25).all()
    off = (found.value - expected) / found.error
    # Of 40 data points one lies beyond three standard errors in one of ten tests; the mean over them is no exception.
    assert (off.abs() < 4).all() and (off.abs() < 3).float().mean() >= 0.95
    mean_error = found.error.square().mean().sqrt() / math.sqrt(len(off))
    assert abs(found.value.mean() - expected.mean()) < 3 * mean_error


def test_all_three_are_those_of_the_linear_gaussian_model(linear, data):
    found = log_likelihoods(linear, data, ["x"], ["y"])
    joint, marginal, given = exact(linear, data, "x", "y"), exact(linear, data, "x"), exact(linear, data, "y")
    assert_within_three_errors(found.joint, joint)
    assert_within_three_errors(found.marginal, marginal)
    # The samples of the prior are shared, so that the errors of the data points are not independent.
    off = (found.conditional.value - (joint - given)) / found.conditional.error
    assert (off.abs() < 3).float().mean() >= 0.95


@pytest.mark.parametrize("proposal", [["x", "y", "v"], ["y"], ["x", "v"], []])
def test_any_modalities_may_be_asked_for_and_any_may_propose(linear, data, proposal):
    found = log_marginal(linear, data, ["v", "x"], proposal, samples=4000)
    assert_within_three_errors(found, exact(linear, data, "x", "v"))


@pytest.mark.parametrize("linear", ["mopoe"], indirect=True)
def test_the_proposal_is_the_posterior_of_the_targets_unless_another_is_named(linear, data):
    named = log_marginal(linear, data, ["x", "v"], ["x", "v"], samples=50)
    assert torch.equal(log_marginal(linear, data, ["x", "v"], samples=50).value, named.value)
    other = log_marginal(linear, data, ["x", "v"], ["x"], samples=50)
    assert not torch.equal(other.value, named.value)
    assert torch.equal(
        log_marginal(linear, data, ["x"], samples=50, seed=0).value, log_marginal(linear, data, ["x"], samples=50).value
    )
    assert not torch.equal(
        log_marginal(linear, data, ["x"], samples=50, seed=1).value, log_marginal(linear, data, ["x"], samples=50).value
    )


@pytest.mark.parametrize("linear", ["mopoe"], indirect=True)
def test_the_sums_are_streamed_in_blocks_of_any_size(linear, data, monkeypatch):
    seen = []
    decode = MultimodalVAE.decode
    monkeypatch.setattr(
        MultimodalVAE, "decode", lambda self, z, names=None: (seen.append(len(z)), decode(self, z, names))[1]
    )
    few = {name: x[:10] for name, x in data.items()}
    for together in (1, 7, 128):
        monkeypatch.setitem(estimator._DECODED, "cpu", together)
        monkeypatch.setattr(likelihood, "_COMPARED", 10 * together)
        seen.clear()
        found = log_likelihoods(linear, few, ["x"], ["y"], samples=500, prior_samples=200)
        assert max(seen) <= together
        assert_within_three_errors(found.joint, exact(linear, few, "x", "y"))


def test_the_stream_is_the_mean_and_its_error():
    log_weight = 5 * torch.randn(1000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 800
    stream = estimator._LogMeanExp()
    for block in log_weight.split([1, 499, 500]):
        stream.add(block)
    weight = (log_weight + 800).exp()
    found = stream.estimate()
    torch.testing.assert_close(found.value, weight.mean(dim=0).log() - 800)
    torch.testing.assert_close(found.error, weight.std(dim=0) / math.sqrt(1000) / weight.mean(dim=0))


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("proposal", [None, ["image"]])
def test_with_a_discrete_label_the_order_of_the_likelihoods_holds(system, proposal):
    """log p(x, y) ≤ log p(x) and log p(x | y) ≥ log p(x, y), of every data point, however few the samples."""
    torch.manual_seed(0)
    modalities = (vector("image", "bernoulli", 20), vector("label", "categorical", 5))
    model = MultimodalVAE(ModelConfiguration(system=system, size="tiny", latent=4, modalities=modalities))
    for parameter in model.decoders["label"].parameters():
        parameter.data *= 5
    batch = {"image": torch.rand(30, 20), "label": torch.eye(5)[torch.randint(0, 5, (30,))]}
    found = log_likelihoods(model, batch, ["image"], ["label"], proposal, samples=20, prior_samples=50)
    assert (found.joint.value < found.marginal.value).all()
    assert (found.conditional.value > found.joint.value).all()
    assert torch.equal(
        found.conditional.value, log_conditional(model, batch, ["image"], ["label"], proposal, 20, 50).value
    )


def test_each_distinct_label_has_one_prior_term():
    torch.manual_seed(0)
    modalities = (vector("image", "bernoulli", 20), vector("label", "categorical", 5))
    model = MultimodalVAE(ModelConfiguration(size="tiny", latent=4, modalities=modalities))
    label = torch.tensor([3, 0, 3, 3, 1, 0])
    batch = {"image": torch.rand(6, 20), "label": torch.eye(5)[label]}
    found = log_likelihoods(model, batch, ["image"], ["label"], samples=20, prior_samples=4000)
    prior = found.joint.value - found.conditional.value
    # Equal but for the rounding of the difference.
    torch.testing.assert_close(prior[[2, 3, 5]], prior[[0, 0, 1]], rtol=0, atol=1e-12)
    assert prior[0] != prior[1]
    with torch.no_grad():
        by_hand = model.decode(torch.randn(200_000, 4), ["label"])["label"].softmax(dim=1).mean(dim=0).log()
    torch.testing.assert_close(prior, by_hand[label].double(), rtol=0, atol=0.01)


@pytest.mark.parametrize("linear", ["mopoe"], indirect=True)
def test_what_the_model_or_the_batch_lacks_is_told(linear, data):
    with pytest.raises(EstimatorError, match=r"expected modalities among \['x', 'y', 'v'\], found 'sound'"):
        log_marginal(linear, data, ["sound"])
    with pytest.raises(EstimatorError, match=r"expected observations of v, found a batch of \['x', 'y'\]"):
        log_marginal(linear, {"x": data["x"], "y": data["y"]}, ["x"], ["v"])


@pytest.mark.parametrize("linear", ["smvae"], indirect=True)
@pytest.mark.parametrize(
    "changed, x, y, samples, told",
    [
        ({"x": torch.zeros(40, 1)}, ["x"], ["y"], 5, r"x expected shape \(40, 4\), found \(40, 1\)"),
        ({"y": torch.zeros(1, 2)}, ["x"], ["y"], 5, r"y expected shape \(40, 2\), found \(1, 2\)"),
        ({"x": torch.zeros(40, 4, dtype=torch.uint8)}, ["x"], ["y"], 5, "x expected torch.float32 .* torch.uint8"),
        ({}, ["x"], ["x"], 5, r"each named once, found \['x', 'x'\]"),
        ({}, ["x"], [], 5, r"at least one modality, each named once, found \[\]"),
        ({}, ["x"], ["y"], 0, "found 40 and 0"),
        ({"x": torch.zeros(0, 4)}, ["x"], ["y"], 5, "found 0 and 5"),
    ],
)
def test_what_would_be_the_likelihood_of_something_else_is_refused(linear, data, changed, x, y, samples, told):
    with pytest.raises((EstimatorError, BatchError), match=told):
        log_likelihoods(linear, data | changed, x, y, proposal=["v"], samples=samples)

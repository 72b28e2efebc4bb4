"""The bound against closed forms, and the subsets that it draws."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, Laplace, Normal, kl_divergence

from smvae_core.modality import Modality
from smvae_core.model.likelihood import expectation, log_likelihood
from smvae_core.preprocessing import Vector
from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.draws import Draws
from smvae_core.systems.posterior import Posterior
from smvae_core.systems.smvae import SMVAESettings, random_subsets
from smvae_core.training.objective import Objective

WITHOUT_COORDINATION = {"subset_kl": 0.0, "full_kl": 0.0}


def vector(likelihood: str, scale: float = 1.0) -> Modality:
    return Modality(
        name="x", source="x", preprocessing=Vector(size=5), network="vector", likelihood=likelihood, scale=scale
    )


def test_kl_to_the_prior_is_the_closed_form():
    mean, log_variance = torch.randn(7, 3), torch.randn(7, 3)
    expected = kl_divergence(
        Independent(Normal(mean, (0.5 * log_variance).exp()), 1), Independent(Normal(torch.zeros(7, 3), 1.0), 1)
    )
    torch.testing.assert_close(Posterior(mean, log_variance, mean).kl_to_prior(), expected)


def test_samples_have_the_posteriors_moments():
    torch.manual_seed(0)
    posterior = Posterior(torch.full((200_000, 1), 1.5), torch.full((200_000, 1), math.log(0.25)), torch.empty(0))
    z = posterior.sample()
    assert abs(z.mean() - 1.5) < 0.01 and abs(z.std() - 0.5) < 0.01


@pytest.mark.parametrize(
    "likelihood, density",
    [
        ("bernoulli", lambda p: Bernoulli(logits=p)),
        ("normal", lambda p: Normal(p, 0.3)),
        ("laplace", lambda p: Laplace(p, 0.3)),
    ],
)
def test_log_likelihoods_are_those_of_torch(likelihood, density):
    parameters, x = torch.randn(4, 5), torch.randint(0, 2, (4, 5)).float()
    found = log_likelihood(vector(likelihood, 0.3), x, parameters)
    torch.testing.assert_close(found, density(parameters).log_prob(x).sum(dim=1))
    torch.testing.assert_close(expectation(vector(likelihood), parameters), density(parameters).mean)


def test_the_categorical_likelihood_is_that_of_torch():
    logits, label = torch.randn(4, 5), torch.tensor([0, 3, 4, 1])
    one_hot = torch.nn.functional.one_hot(label, 5).float()
    found = log_likelihood(vector("categorical"), one_hot, logits)
    torch.testing.assert_close(found, Categorical(logits=logits).log_prob(label))


def one_term(subset: torch.Tensor, targets: torch.Tensor) -> Draws:
    noise = torch.randn(1, len(subset), 64, generator=torch.Generator().manual_seed(3))
    return Draws(subset[None], targets[None], torch.ones(1, 4, dtype=torch.bool), noise)


def all_present(rows: int = 6) -> torch.Tensor:
    return torch.ones(rows, 4, dtype=torch.bool)


@pytest.mark.parametrize("reconstruct, scored", [("available", [True] * 4), ("observed", [True, False, False, True])])
def test_the_bound_is_weighted_likelihood_minus_beta_kl(model, batch, reconstruct, scored):
    configuration = SMVAESettings(**WITHOUT_COORDINATION, reconstruct=reconstruct, pull=0.1)
    subset = torch.tensor([[True, False, False, True]]).expand(6, -1)
    drawn = one_term(subset, all_present() if reconstruct == "available" else subset)
    bound = Objective(model, configuration)(batch, drawn, beta=0.7)

    posterior = model.posterior(batch, subset)
    decoded = model.decode(posterior.sample(drawn.noise[0]))
    likelihood = sum(
        model.modalities[name].weight * log_likelihood(model.modalities[name], batch[name], decoded[name])
        for name, here in zip(model.names, scored)
        if here
    )
    sigma = (0.5 * posterior.log_variance).exp()
    pull = (posterior.mean.square() + (sigma - 1).square()).sum(dim=1).mean()
    expected = (0.7 * posterior.kl_to_prior() - likelihood).mean() + 0.1 * pull
    torch.testing.assert_close(bound.loss, expected)
    torch.testing.assert_close(bound.kl, posterior.kl_to_prior().mean())


def test_unavailable_targets_give_neither_value_nor_gradient(model, batch):
    available = all_present()
    available[:, 0] = False
    batch = batch | {"rgb": torch.full_like(batch["rgb"], float("nan"))}
    bound = Objective(model, SMVAESettings(**WITHOUT_COORDINATION))(batch, one_term(available, available), beta=1.0)
    bound.loss.backward()
    assert torch.isfinite(bound.loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_beta_is_annealed_linearly():
    configuration = ObjectiveConfiguration(beta=2.0, anneal_epochs=10)
    assert [configuration.annealed_beta(epoch) for epoch in (0, 2.5, 10, 50)] == [0.0, 0.5, 2.0, 2.0]
    assert ObjectiveConfiguration(beta=2.0, anneal_epochs=0).annealed_beta(0) == 2.0


def test_random_subsets_lie_within_what_is_available_and_are_never_empty():
    available = torch.rand(5000, 4, generator=torch.Generator().manual_seed(0)) < 0.6
    subset = random_subsets(available, SMVAESettings(), torch.Generator().manual_seed(1))
    assert not (subset & ~available).any()
    assert torch.equal(subset.any(dim=1), available.any(dim=1))


def test_every_subset_is_drawn_with_its_probability():
    configuration = SMVAESettings(keep=0.5)
    subset = random_subsets(all_present(60_000), configuration, torch.Generator().manual_seed(0))
    kinds = (subset * torch.tensor([1, 2, 4, 8])).sum(dim=1).bincount(minlength=16) / 60_000
    assert kinds[0] == 0
    singles = torch.tensor([kinds[1], kinds[2], kinds[4], kinds[8]])
    # A draw of nothing (1/16) goes to one of the four single modalities.
    torch.testing.assert_close(singles, torch.full((4,), 1 / 16 + 1 / 64), rtol=0.1, atol=0)
    torch.testing.assert_close(kinds[15], torch.tensor(1 / 16), rtol=0.1, atol=0)


def test_each_modality_may_be_kept_with_its_own_probability():
    configuration = SMVAESettings(keep={"rgb": 0.1, "force": 1.0})
    names = ("rgb", "depth", "force", "action")
    subset = random_subsets(all_present(20_000), configuration, torch.Generator().manual_seed(0), names)
    torch.testing.assert_close(subset.float().mean(dim=0), torch.tensor([0.1, 0.5, 1.0, 0.5]), rtol=0, atol=0.02)


def test_the_same_generator_state_draws_the_same_subsets():
    draws = [random_subsets(all_present(50), SMVAESettings(), torch.Generator().manual_seed(7)) for _ in "ab"]
    assert torch.equal(*draws)

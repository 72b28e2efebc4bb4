"""The coordination of SMVAE's posteriors: its bound by hand, its gradients, its optimum."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from smvae_core.data.corruption import Corrupted
from smvae_core.model.likelihood import log_likelihood
from smvae_core.model.vae import Batch, MultimodalVAE
from smvae_core.systems.draws import Draws
from smvae_core.systems.posterior import Posterior, gaussian_kl
from smvae_core.systems.smvae import PAPER, SYSTEM, SMVAESettings
from smvae_core.systems.terms import Step
from smvae_core.training.objective import Objective

ROWS, LATENT = 6, 64
BETA, RAMP = 0.7, 0.25
SETTINGS = SMVAESettings(subset_kl=1.5, full_kl=0.2, subset_likelihood=0.4, pull=0.3)


@pytest.fixture
def available() -> Tensor:
    available = torch.ones(ROWS, 4, dtype=torch.bool)
    available[1, 0] = available[2, 1:] = False
    available[3] = False
    return available


def drawn(available: Tensor, settings: SMVAESettings = SETTINGS) -> Draws:
    names = ("rgb", "depth", "force", "action")
    return SYSTEM.draw(settings, available, LATENT, names, torch.Generator().manual_seed(3))


def as_torch(mean: Tensor, log_variance: Tensor) -> Independent:
    return Independent(Normal(mean, (0.5 * log_variance).exp()), 1)


PRIOR = as_torch(torch.zeros(LATENT), torch.zeros(LATENT))


def log_p(model: MultimodalVAE, one: Batch, has: list[str], q: Independent, noise: Tensor) -> Tensor:
    """Σ λ_m log p(x_m | z) of one sample."""
    decoded = model.decode((q.mean + q.base_dist.stddev * noise)[None])
    total = torch.zeros(())
    for name in has:
        modality = model.modalities[name]
        total = total + modality.weight * log_likelihood(modality, one[name], decoded[name])[0]
    return total


def by_hand(model: MultimodalVAE, batch: Batch, corrupted: Batch, draws: Draws) -> Tensor:
    """The loss, sample by sample, of settings `SETTINGS`."""
    losses = []
    for row in range(ROWS):
        one = {name: x[row : row + 1] for name, x in batch.items()}
        bad = {name: x[row : row + 1] for name, x in corrupted.items()}
        has = [name for name, here in zip(model.names, draws.subsets[0, row]) if here]
        full = model.posterior(one, draws.subsets[0, row : row + 1])
        part = model.posterior(bad, draws.subsets[1, row : row + 1])
        q, p = as_torch(full.mean[0], full.log_variance[0]), as_torch(part.mean[0], part.log_variance[0])

        pull = (q.mean.square() + (q.base_dist.stddev - 1).square()).sum()
        bound = log_p(model, one, has, q, draws.noise[0, row]) - BETA * kl_divergence(q, PRIOR) - 0.3 * pull
        bound = bound - RAMP * (1.5 + 0.2) * kl_divergence(q, p) + 0.4 * log_p(model, one, has, p, draws.noise[1, row])
        losses.append(-bound)
    return torch.stack(losses).mean()


def test_the_bound_is_that_of_the_whole_set_with_both_kls_and_the_prediction_of_the_subset(model, batch, available):
    draws = drawn(available)
    bound = Objective(model, SETTINGS)(batch, draws, BETA, RAMP)
    torch.testing.assert_close(bound.loss, by_hand(model, batch, batch, draws), rtol=1e-5, atol=1e-2)


def test_the_subset_sees_what_is_corrupted_and_the_whole_set_and_the_targets_what_is_clean(model, batch, available):
    draws, changed = drawn(available), torch.rand(ROWS, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    corrupted = {
        name: torch.where(changed[:, column].view(-1, *[1] * (x.ndim - 1)), 1.0 - x, x)
        for column, (name, x) in enumerate(batch.items())
    }
    assert (changed & draws.subsets[1]).any()
    bound = Objective(model, SETTINGS)(batch, draws, BETA, RAMP, Corrupted(corrupted, changed))
    torch.testing.assert_close(bound.loss, by_hand(model, batch, corrupted, draws), rtol=1e-5, atol=1e-2)
    assert abs(bound.loss - Objective(model, SETTINGS)(batch, draws, BETA, RAMP).loss) > 1e-3


class TwoPosteriors(nn.Module):
    """A network that gives one fixed Gaussian for the whole set and another one for any subset."""

    def __init__(self) -> None:
        super().__init__()
        self.full = nn.Parameter(torch.randn(2, ROWS, LATENT))
        self.part = nn.Parameter(torch.randn(2, ROWS, LATENT))

    def forward(self, embeddings: Tensor, mask: Tensor) -> Posterior:
        mean, log_variance = self.full if bool(mask.all()) else self.part
        return Posterior(mean, log_variance, mask.float())


def gradients(**settings: float) -> tuple[TwoPosteriors, Tensor, Tensor]:
    """The gradients of the cost alone, of the whole set's parameters and of the subset's."""
    torch.manual_seed(0)
    network, everything = TwoPosteriors(), torch.ones(ROWS, 4, dtype=torch.bool)
    draws = replace(drawn(everything), subsets=torch.stack([everything, everything & (torch.arange(4) < 2)]))
    nothing = torch.zeros(ROWS, 4, 1)
    terms = SYSTEM.terms(network, Step(nothing, nothing, draws, 0.0, 1.0), SMVAESettings(**settings))
    terms.cost.sum().backward(retain_graph=True)
    full, part = (torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in network.parameters())
    network.zero_grad()
    terms.z[1].sum().backward()
    return network, full, part


def test_the_first_kl_trains_the_subset_and_the_second_the_whole_set():
    network, full, part = gradients(subset_kl=2.0, full_kl=0.0)
    kl = 2.0 * gaussian_kl(Posterior(*network.full.detach(), None), Posterior(*network.part, None)).sum()
    assert not full.any()
    torch.testing.assert_close(part, torch.autograd.grad(kl, network.part)[0])
    network, full, both = gradients(subset_kl=2.0, full_kl=0.5)
    kl = 0.5 * gaussian_kl(Posterior(*network.full, None), Posterior(*network.part.detach(), None)).sum()
    torch.testing.assert_close(full, torch.autograd.grad(kl, network.full)[0])
    torch.testing.assert_close(both, part)


def test_the_prediction_trains_the_mean_of_the_subset_and_not_its_variance():
    network, _, _ = gradients()
    torch.testing.assert_close(network.part.grad[0], torch.ones(ROWS, LATENT))
    assert not network.part.grad[1].any() and not network.full.grad.any()


def test_at_the_optimum_of_the_first_kl_the_subset_covers_the_whole_set_and_z_squared_is_one():
    """Of all Gaussians the one with the moments of the mixture of the full posteriors has the least mean KL."""
    torch.manual_seed(0)
    full = Posterior(2 * torch.randn(500, 3, dtype=torch.float64), torch.randn(500, 3, dtype=torch.float64), None)
    mean = full.mean.mean(dim=0)
    variance = (full.log_variance.exp() + (full.mean - mean).square()).mean(dim=0)
    part = torch.stack([mean, variance.log()]).requires_grad_()
    gaussian_kl(full, Posterior(*part, None)).mean().backward()
    torch.testing.assert_close(part.grad, torch.zeros(2, 3, dtype=torch.float64), rtol=0, atol=1e-12)
    z_squared = (((full.mean - mean).square() + full.log_variance.exp()) / variance).mean()
    torch.testing.assert_close(z_squared, torch.ones((), dtype=torch.float64))


def test_without_prediction_of_the_subset_nothing_is_decoded_for_it(model, batch, available):
    settings = SMVAESettings(subset_likelihood=0.0)
    draws = drawn(available, settings)
    bound = Objective(model, settings)(batch, draws, BETA)
    assert bound.scored[0].any() and not bound.scored[1].any() and not bound.rows[1].any()


def test_the_coordination_grows_over_its_first_steps():
    assert [SMVAESettings(ramp_steps=200).ramp(step) for step in (0, 50, 200, 900)] == [0.0, 0.25, 1.0, 1.0]
    assert SMVAESettings(ramp_steps=0).ramp(0) == 1.0


def test_the_papers_own_settings_have_one_term_and_score_what_it_saw(available):
    draws = drawn(available, PAPER)
    assert not PAPER.coordinated and PAPER.full_set == 0.0
    assert draws.subsets.shape == (1, ROWS, 4) and torch.equal(draws.targets, draws.subsets) and draws.clean == ()


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"subset_kl": 0.0}, "expected full_kl 0 where subset_kl is 0, found 0.1: .* σ nothing trains"),
        ({"full_set": 0.2}, "expected full_set 0 with coordination .*, found 0.2: .* set subset_kl and full_kl to 0"),
        ({"reconstruct": "observed"}, "expected reconstruct 'available' with coordination"),
        ({"keep": 1.0}, "no subset would ever be drawn"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_with_the_reason(settings, reason):
    with pytest.raises(ValidationError, match=reason):
        SMVAESettings(**settings)

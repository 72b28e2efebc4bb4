"""Products and mixtures of Gaussians against numerical integration, enumeration and torch.distributions."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from smvae_core.systems.experts import Experts
from smvae_core.systems.posterior import Posterior, gaussian_kl

GRID = torch.linspace(-30.0, 30.0, 60_001, dtype=torch.float64)[:, None, None]
STEP = 60.0 / 60_000


def some_experts(rows: int = 1, modalities: int = 3, latent: int = 1, seed: int = 0) -> Experts:
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = torch.randn(2, rows, modalities, latent, generator=generator, dtype=torch.float64)
    return Experts(2 * mean, log_variance)


def sets(modalities: int, sizes: range) -> torch.Tensor:
    """(K, M), bool: all subsets of these sizes."""
    columns = range(modalities)
    return torch.tensor([[m in s for m in columns] for size in sizes for s in combinations(columns, size)])


def as_torch(posterior: Posterior) -> Independent:
    return Independent(Normal(posterior.mean, (0.5 * posterior.log_variance).exp()), 1)


@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("subset", [(0,), (1, 2), (0, 1, 2)])
def test_a_product_is_the_normalised_product_of_the_densities(subset, prior):
    experts = some_experts()
    expected = Normal(0.0, 1.0).log_prob(GRID[:, 0, 0]).exp() if prior else torch.ones(len(GRID))
    for m in subset:
        expected = (
            expected
            * Normal(experts.mean[0, m], (0.5 * experts.log_variance[0, m]).exp()).log_prob(GRID[:, 0, 0]).exp()
        )
    found = experts.product(torch.tensor([[m in subset for m in range(3)]]), prior)
    torch.testing.assert_close(
        found.log_prob(GRID)[:, 0].exp(), expected / (expected.sum() * STEP), atol=1e-9, rtol=1e-5
    )
    assert found.attention[0].sum() == pytest.approx(1.0)


def test_the_share_of_a_product_is_that_in_the_precision():
    experts = Experts(torch.zeros(1, 2, 1), torch.tensor([[[0.25], [1.0]]]).log())
    both = torch.ones(1, 2, dtype=torch.bool)
    torch.testing.assert_close(experts.product(both).attention, torch.tensor([[0.8, 0.2]]))
    torch.testing.assert_close(experts.product(both, prior=True).attention, torch.tensor([[0.8, 0.2]]))


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("held", [(0, 1, 2), (0, 2), (1,)])
def test_a_mixture_has_the_density_and_the_moments_of_its_enumerated_components(held, most):
    """Of products over all subsets of what is held, as MoPoE's, or over single ones, as MMVAE's."""
    experts = some_experts()
    components = [
        experts.product(torch.tensor([[m in subset for m in range(3)]]))
        for size in range(1, min(most, len(held)) + 1)
        for subset in combinations(held, size)
    ]
    expected = sum(component.log_prob(GRID)[:, 0].exp() for component in components) / len(components)
    mask = torch.tensor([[m in held for m in range(3)]])
    found = experts.mixture(mask, sets(3, range(1, most + 1)))
    torch.testing.assert_close(found.log_prob(GRID)[:, 0].exp(), expected, atol=1e-9, rtol=1e-6)
    z = GRID[:, 0, 0]
    mean = (z * expected).sum() * STEP
    torch.testing.assert_close(found.mean[0, 0], mean)
    torch.testing.assert_close(found.log_variance[0, 0].exp(), ((z - mean).square() * expected).sum() * STEP)
    torch.testing.assert_close(found.attention[0], sum(c.attention[0] for c in components) / len(components))


def test_rows_of_one_mixture_may_have_other_components():
    experts, singles = some_experts(rows=4, latent=3), sets(3, range(1, 2))
    mask = torch.tensor([[True, True, True], [False, True, False], [True, False, True], [False, False, False]])
    together = experts.mixture(mask, singles)
    z = torch.randn(5, 4, 3, dtype=torch.float64)
    for row in range(3):
        held = mask[row]
        each = Independent(Normal(experts.mean[row, held], (0.5 * experts.log_variance[row, held]).exp()), 1)
        alone = MixtureSameFamily(Categorical(torch.ones(int(held.sum()), dtype=torch.float64)), each)
        torch.testing.assert_close(together.log_prob(z)[:, row], alone.log_prob(z[:, row]))
        torch.testing.assert_close(together.mean[row], alone.mean)
        torch.testing.assert_close(together.log_variance[row].exp(), alone.variance)
    prior = Normal(0.0, 1.0).log_prob(z[:, 3]).sum(dim=1)
    torch.testing.assert_close(together.log_prob(z)[:, 3], prior)


def test_samples_of_a_mixture_come_from_its_components_in_equal_parts():
    experts, mask = some_experts(rows=2), torch.tensor([[True, True, True], [True, False, True]])
    mixture = experts.mixture(mask, sets(3, range(1, 4)))
    choice = ((torch.arange(2100) + 0.5) / 2100)[:, None].expand(-1, 2)
    z = mixture.sample(torch.zeros(2100, 2, 1, dtype=torch.float64), choice)
    for row, components in enumerate((7, 3)):
        means, counts = z[:, row, 0].unique(return_counts=True)
        expected = mixture.components.mean[mixture.weight[:, row] > 0, row, 0]
        torch.testing.assert_close(means, expected.sort().values)
        assert counts.tolist() == [2100 // components] * components


def test_the_largest_choice_takes_a_component_that_the_row_has():
    experts = some_experts()
    mixture = experts.mixture(torch.tensor([[True, True, False]]), sets(3, range(1, 4)))
    last = mixture.sample(torch.zeros(1, 1, dtype=torch.float64), torch.tensor([1.0 - 2**-24]))
    torch.testing.assert_close(last, experts.product(torch.tensor([[True, True, False]])).mean)


def test_samples_of_a_mixture_have_its_moments():
    torch.manual_seed(0)
    mixture = some_experts().mixture(torch.ones(1, 3, dtype=torch.bool), sets(3, range(1, 4)))
    z = mixture.sample(torch.randn(400_000, 1, 1, dtype=torch.float64))
    assert abs(z.mean() - mixture.mean) < 0.01 and abs(z.var() / mixture.log_variance.exp() - 1) < 0.02


def test_kls_are_those_of_torch():
    q, p = (Posterior(*torch.randn(2, 7, 3), torch.empty(0)) for _ in "qp")
    prior = Independent(Normal(torch.zeros(7, 3), 1.0), 1)
    torch.testing.assert_close(gaussian_kl(q, p), kl_divergence(as_torch(q), as_torch(p)))
    torch.testing.assert_close(q.kl_to_prior(), kl_divergence(as_torch(q), prior))
    torch.testing.assert_close(q.log_prob(p.mean), as_torch(q).log_prob(p.mean))


def test_the_kl_of_a_mixture_is_the_mean_over_its_components_and_bounds_its_own():
    mixture = some_experts().mixture(torch.ones(1, 3, dtype=torch.bool), sets(3, range(1, 4)))
    prior = Independent(Normal(torch.zeros(7, 1, 1, dtype=torch.float64), 1.0), 1)
    expected = kl_divergence(as_torch(mixture.components), prior).mean()
    torch.testing.assert_close(mixture.kl_to_prior()[0], expected)
    log_q, log_p = mixture.log_prob(GRID)[:, 0], Normal(0.0, 1.0).log_prob(GRID[:, 0, 0])
    exact = (log_q.exp() * (log_q - log_p)).sum() * STEP
    assert 0 < exact < expected


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(4)), mask=st.lists(st.booleans(), min_size=4, max_size=4), prior=st.booleans())
def test_neither_products_nor_mixtures_depend_on_the_order_of_the_experts(order, mask, prior):
    experts = some_experts(modalities=4, latent=2)
    permuted = Experts(experts.mean[:, order], experts.log_variance[:, order])
    mask, subsets = torch.tensor([mask]), sets(4, range(1, 5))
    for straight, other in (
        (experts.product(mask, prior), permuted.product(mask[:, order], prior)),
        (experts.mixture(mask, subsets), permuted.mixture(mask[:, order], subsets)),
    ):
        torch.testing.assert_close(straight.mean, other.mean)
        torch.testing.assert_close(straight.log_variance, other.log_variance)
        torch.testing.assert_close(straight.attention[:, order], other.attention)

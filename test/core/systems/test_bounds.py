"""The bound of each system against its equation, written out by hand, sample by sample."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical as Choice
from torch.distributions import Independent, MixtureSameFamily, Normal, kl_divergence

from smvae_core.modality import Modality
from smvae_core.model.likelihood import log_likelihood
from smvae_core.model.vae import Batch, ModelConfiguration, MultimodalVAE
from smvae_core.preprocessing import Vector
from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.draws import Draws, uniform_subsets
from smvae_core.systems.registry import SYSTEMS, objective_settings
from smvae_core.training.objective import Bound, Objective

ROWS, LATENT = 5, 3
BETA = 0.7
# The last samples lack one modality, or both.
AVAILABLE = torch.tensor([[True, True], [True, True], [True, False], [False, True], [False, False]])


def two_modalities(system: str) -> MultimodalVAE:
    torch.manual_seed(0)
    kinds = (("x", 4, "normal", 1.0), ("y", 3, "categorical", 10.0))
    modalities = tuple(
        Modality(
            name=name,
            source=name,
            preprocessing=Vector(size=size),
            network="vector",
            likelihood=likelihood,
            weight=weight,
        )
        for name, size, likelihood, weight in kinds
    )
    return MultimodalVAE(ModelConfiguration(system=system, size="tiny", latent=LATENT, modalities=modalities))


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(1)
    return {"x": torch.randn(ROWS, 4), "y": torch.eye(3)[torch.randint(0, 3, (ROWS,))]}


class ByHand:
    """One sample of a batch, and what its equation needs."""

    def __init__(self, model: MultimodalVAE, batch: Batch, row: int) -> None:
        self.model, self.x = model, {name: x[row] for name, x in batch.items()}
        self.has = [name for name, here in zip(model.names, AVAILABLE[row]) if here]

    def expert(self, name: str) -> Independent:
        head = self.model.fusion.experts.heads[name](self.model.embeddings[name](self.x[name][None])[0])
        return gaussian(*head.chunk(2))

    def log_p(self, z: Tensor, names: list[str]) -> Tensor:
        """Σ λ_m log p(x_m | z)."""
        total = torch.zeros(())
        for name in names:
            modality, decoded = self.model.modalities[name], self.model.decoders[name](z[None])
            total = total + modality.weight * log_likelihood(modality, self.x[name][None], decoded)[0]
        return total


def gaussian(mean: Tensor, log_variance: Tensor) -> Independent:
    return Independent(Normal(mean, (0.5 * log_variance).exp()), 1)


def product(*experts: Independent) -> Independent:
    precisions = [expert.base_dist.variance.reciprocal() for expert in experts]
    mean = sum(p * e.mean for p, e in zip(precisions, experts)) / sum(precisions)
    return gaussian(mean, -sum(precisions).log())


def at(q: Independent, noise: Tensor) -> Tensor:
    return q.mean + q.base_dist.stddev * noise


PRIOR = gaussian(torch.zeros(LATENT), torch.zeros(LATENT))


def settings_of(model: MultimodalVAE, **settings) -> ObjectiveConfiguration:
    return objective_settings(model.configuration.system, settings)


def drawn(model: MultimodalVAE, **settings) -> Draws:
    generator = torch.Generator().manual_seed(4)
    return model.system.draw(settings_of(model, **settings), AVAILABLE, LATENT, model.names, generator)


def bound_of(model: MultimodalVAE, batch: Batch, draws: Draws, **settings) -> Bound:
    return Objective(model, settings_of(model, **settings))(batch, draws, BETA)


def assert_loss(bound: Bound, by_hand: list[Tensor]) -> None:
    torch.testing.assert_close(bound.loss, -torch.stack(by_hand).mean(), rtol=1e-5, atol=1e-5)


def test_mvae_sums_the_elbos_of_everything_of_each_modality_and_of_random_subsets(batch):
    model = two_modalities("mvae")
    draws = drawn(model, random_subsets=2)
    expected = []
    for row in range(ROWS):
        sample, elbo = ByHand(model, batch, row), torch.zeros(())
        subsets = [sample.has, ["x"], ["y"], *([n for n, k in zip("xy", s[row]) if k] for s in draws.subsets[3:])]
        for t, subset in enumerate(subsets):
            if not subset or not set(subset) <= set(sample.has):
                continue
            q = product(PRIOR, *(sample.expert(name) for name in subset))
            z = at(q, draws.noise[t, row])
            elbo = elbo + sample.log_p(z, subset) - BETA * kl_divergence(q, PRIOR)
        expected.append(elbo)
    assert_loss(bound_of(model, batch, draws, random_subsets=2), expected)


def test_mmvae_has_the_stratified_elbo_of_the_mixture(batch):
    model = two_modalities("mmvae")
    draws = drawn(model)
    expected = []
    for row in range(ROWS):
        sample, elbo = ByHand(model, batch, row), torch.zeros(())
        experts = [sample.expert(name) for name in sample.has]
        for name, q in zip(sample.has, experts):
            z = at(q, draws.noise["xy".index(name), row])
            together = gaussian(
                torch.stack([e.mean for e in experts]), torch.stack([e.variance for e in experts]).log()
            )
            mixture = MixtureSameFamily(Choice(torch.ones(len(experts))), together)
            kl = mixture.log_prob(z) - PRIOR.log_prob(z)
            elbo = elbo + (sample.log_p(z, sample.has) - BETA * kl) / len(experts)
        expected.append(elbo)
    assert_loss(bound_of(model, batch, draws), expected)


def test_mopoe_has_on_average_the_elbo_with_the_mean_kl_over_all_subsets(batch):
    """Over all the subsets that it may draw, each as likely as the others."""
    model = two_modalities("mopoe")
    draws = drawn(model)
    expected = []
    for row in range(ROWS):
        sample = ByHand(model, batch, row)
        subsets = [s for s in (["x"], ["y"], ["x", "y"]) if set(s) <= set(sample.has)]
        elbo = torch.zeros(())
        for subset in subsets:
            q = product(*(sample.expert(name) for name in subset))
            log_p = sample.log_p(at(q, draws.noise[0, row]), sample.has)
            elbo = elbo + (log_p - BETA * kl_divergence(q, PRIOR)) / len(subsets)
        expected.append(elbo)
    losses = [torch.zeros(ROWS) for _ in range(3)]
    for k, subset in enumerate(torch.tensor([[True, False], [False, True], [True, True]])):
        for row in range(ROWS):
            alone = replace(draws.part(slice(row, row + 1)), subsets=(subset & AVAILABLE[row])[None, None])
            one = {name: x[row : row + 1] for name, x in batch.items()}
            losses[k][row] = bound_of(model, one, alone).loss
    # A sample with one modality draws it always, as each of the three cut down to it, but not the empty one.
    means = []
    for row, has in enumerate(AVAILABLE):
        kept = [k for k, s in enumerate(([True, False], [False, True], [True, True])) if (torch.tensor(s) & has).any()]
        means.append(torch.stack([losses[k][row] for k in kept]).mean() if kept else losses[0][row])
    torch.testing.assert_close(-torch.stack(means), torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_jmvae_draws_the_unimodal_encoders_to_the_joint_one(batch):
    model = two_modalities("jmvae")
    draws, fusion = drawn(model), model.fusion
    expected = []
    for row in range(ROWS):
        sample = ByHand(model, batch, row)
        q = PRIOR
        if sample.has:
            # One layer over both embeddings side by side, zeros for what is absent.
            side_by_side = torch.cat(
                [
                    model.embeddings[n](batch[n][row][None])[0] if n in sample.has else torch.zeros(model.width)
                    for n in "xy"
                ]
            )
            weight = torch.cat([fusion.hidden["x"].weight, fusion.hidden["y"].weight], dim=1)
            hidden = torch.nn.functional.silu(weight @ side_by_side + fusion.bias)
            q = gaussian(*fusion.head(hidden).chunk(2))
        apart = sum(kl_divergence(q, sample.expert(name)) for name in sample.has)
        log_p = sample.log_p(at(q, draws.noise[0, row]), sample.has)
        expected.append(log_p - BETA * kl_divergence(q, PRIOR) - 0.3 * apart)
    assert_loss(bound_of(model, batch, draws, alpha=0.3), expected)


def test_crmvae_has_the_terms_of_its_paper(batch):
    model = two_modalities("crmvae")
    draws = drawn(model)
    expected = []
    for row in range(ROWS):
        sample = ByHand(model, batch, row)
        experts = {name: sample.expert(name) for name in sample.has}
        joint = product(*experts.values()) if experts else PRIOR
        z = at(joint, draws.noise[0, row])
        bound = sample.log_p(z, sample.has) - BETA * kl_divergence(joint, PRIOR)
        for name, q in experts.items():
            bound = bound + sample.log_p(at(q, draws.noise[1 + "xy".index(name), row]), [name])
            bound = bound - BETA * kl_divergence(joint, q)
        expected.append(bound / (len(sample.has) + 1))
    assert_loss(bound_of(model, batch, draws), expected)


def test_smvae_reconstructs_what_is_available_or_what_it_saw(batch):
    model = two_modalities("smvae")
    for reconstruct in ("available", "observed"):
        paper = {"subset_kl": 0.0, "full_kl": 0.0, "reconstruct": reconstruct}
        draws = drawn(model, **paper)
        expected = []
        for row in range(ROWS):
            sample = ByHand(model, batch, row)
            one = {name: x[row : row + 1] for name, x in batch.items()}
            posterior = model.posterior(one, draws.subsets[0, row : row + 1])
            q = gaussian(posterior.mean[0], posterior.log_variance[0])
            seen = [name for name, kept in zip("xy", draws.subsets[0, row]) if kept]
            log_p = sample.log_p(at(q, draws.noise[0, row]), sample.has if reconstruct == "available" else seen)
            expected.append(log_p - BETA * kl_divergence(q, PRIOR))
        assert_loss(bound_of(model, batch, draws, **paper), expected)


def test_mvtcae_has_the_terms_of_its_paper(batch):
    model, alpha = two_modalities("mvtcae"), 0.4
    draws = drawn(model)
    expected = []
    for row in range(ROWS):
        sample = ByHand(model, batch, row)
        experts = [sample.expert(name) for name in sample.has]
        joint, n = product(*experts) if experts else PRIOR, max(1, len(experts))
        log_p = sample.log_p(at(joint, draws.noise[0, row]), sample.has)
        kls = (1 - alpha) * kl_divergence(joint, PRIOR)
        kls = kls + alpha / n * sum(kl_divergence(joint, q) for q in experts)
        expected.append((n - alpha) / n * log_p - BETA * kls)
    assert_loss(bound_of(model, batch, draws, correlation=alpha), expected)


def test_mvtcae_without_correlation_is_the_elbo_of_everything(batch):
    model = two_modalities("mvtcae")
    draws = drawn(model)
    expected = []
    for row in range(ROWS):
        sample = ByHand(model, batch, row)
        joint = product(*map(sample.expert, sample.has)) if sample.has else PRIOR
        log_p = sample.log_p(at(joint, draws.noise[0, row]), sample.has)
        expected.append(log_p - BETA * kl_divergence(joint, PRIOR))
    assert_loss(bound_of(model, batch, draws, correlation=0.0), expected)


def test_telbo_sums_the_elbos_of_the_joint_and_of_each_unimodal_encoder(batch):
    model = two_modalities("telbo")
    draws = drawn(model)
    embeddings = model.embed(batch, AVAILABLE)
    joint = model.fusion.joint(embeddings, AVAILABLE)
    expected = []
    for row in range(ROWS):
        sample = ByHand(model, batch, row)
        q = gaussian(joint.mean[row], joint.log_variance[row])
        elbo = sample.log_p(at(q, draws.noise[0, row]), sample.has) - BETA * kl_divergence(q, PRIOR)
        for name in sample.has:
            q = sample.expert(name)
            elbo = elbo + sample.log_p(at(q, draws.noise[1 + "xy".index(name), row]), [name])
            elbo = elbo - BETA * kl_divergence(q, PRIOR)
        expected.append(elbo)
    assert_loss(bound_of(model, batch, draws), expected)


def test_telbo_trains_its_decoders_by_the_joint_elbo_alone(batch):
    model = two_modalities("telbo")
    draws = drawn(model)
    bound_of(model, batch, draws).loss.backward()
    found = {name: p.grad.clone() for name, p in model.decoders.named_parameters()}
    model.zero_grad()
    joint = Draws(draws.subsets, draws.targets.clone(), draws.explains, draws.noise)
    joint.targets[1:] = False
    bound_of(model, batch, joint).loss.backward()
    for name, p in model.decoders.named_parameters():
        torch.testing.assert_close(p.grad, found[name])


def test_where_samples_have_one_modality_mopoe_and_crmvae_are_plain_vaes(batch):
    """Their mixtures and products have but one component, whose ELBO is known."""
    x, expected = {"x": batch["x"]}, []
    models = {system: two_modalities(system) for system in ("mopoe", "crmvae")}
    models["crmvae"].load_state_dict(models["mopoe"].state_dict())
    available = torch.tensor([[True, False]]).expand(ROWS, -1)
    noise = torch.randn(1, ROWS, LATENT)
    one = torch.ones(1, 2, dtype=torch.bool)
    for row in range(ROWS):
        sample = ByHand(models["mopoe"], batch, row)
        q = sample.expert("x")
        expected.append(sample.log_p(at(q, noise[0, row]), ["x"]) - BETA * kl_divergence(q, PRIOR))
    draws = Draws(available[None], available[None], one, noise)
    assert_loss(bound_of(models["mopoe"], x, draws), expected)
    both = Draws(
        *(y.expand(2, -1, -1) for y in (available[None], available[None])), one.expand(2, -1), noise.expand(2, -1, -1)
    )
    # π (2 log p - KL), since the joint posterior is the unimodal one, and their KL nothing.
    halved = [
        (2 * e + BETA * kl_divergence(ByHand(models["mopoe"], batch, r).expert("x"), PRIOR)) / 2
        for r, e in enumerate(expected)
    ]
    assert_loss(bound_of(models["crmvae"], x, both), halved)


def test_uniform_subsets_are_uniform_over_what_each_sample_has():
    for has in ([True] * 4, [True, False, True, True], [False, True, False, False]):
        available = torch.tensor([has]).expand(60_000, -1)
        subset = uniform_subsets(available, torch.Generator().manual_seed(0))
        counts = (subset * torch.tensor([1, 2, 4, 8])).sum(dim=1).bincount(minlength=16)
        possible = 2 ** sum(has) - 1
        assert int((counts > 0).sum()) == possible and not (subset & ~available).any()
        torch.testing.assert_close(counts[counts > 0] / 60_000, torch.full((possible,), 1 / possible), rtol=0.1, atol=0)
    assert not uniform_subsets(torch.zeros(3, 4, dtype=torch.bool), torch.Generator().manual_seed(0)).any()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_same_generator_state_draws_the_same(system):
    model = two_modalities(system)
    first, second = (drawn(model) for _ in range(2))
    for name in ("subsets", "targets", "explains", "noise"):
        assert torch.equal(getattr(first, name), getattr(second, name))

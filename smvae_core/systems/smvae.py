"""SMVAE (Zhou et al.): one set encoder for any subset, trained with coordinated subsets or as in the paper.

docs/set-model.md derives the objective, and says which part is the paper's.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator
from torch import Tensor, nn

from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.draws import Draws, everything
from smvae_core.systems.posterior import (
    Posterior,
    at_least_single,
    bounded_embeddings,
    bounded_log_variance,
    gaussian_kl,
)
from smvae_core.systems.system import System
from smvae_core.systems.terms import Step, Terms, equal_weights, fixed, kl_to_forecast

# With memory: the shares of subsets that contain it, that are memory alone, and that are the degraded set with it.
_WITH_MEMORY, _ALONE, _DEGRADED = 0.85, 0.15, 0.4

Probability = Annotated[float, Field(gt=0.0, le=1.0)]


class SMVAESettings(ObjectiveConfiguration):
    """The settings of SMVAE's objective: X is all that a sample has, S a random subset of it.

    With coordination (`subset_kl` > 0) the bound of X is trained, and q(z|S) is drawn to q(z|X). Without it, as in the
    paper, the bound of S is trained. `PAPER` has the paper's own settings.

    Attributes:
        subset_kl: weight a_s of KL(q(z|X) ‖ q(z|S)) as a function of q(z|S): trains the posterior of S to cover that of
            X; 0 for no coordination.
        full_kl: weight a_f of the same KL as a function of q(z|X): keeps out of the posterior of X what no subset can
            tell.
        subset_likelihood: weight r of the prediction of X from the subset's mean.
        ramp_steps: `subset_kl` and `full_kl` grow linearly from 0 over so many steps.
        keep: probability that S keeps a modality; one for all modalities, or by name (0.5 for those not named). 0.5
            draws uniformly from the power set of Eq. 4; a draw that is empty becomes one modality.
        full_set: without coordination, probability that S is X.
        reconstruct: without coordination, `observed` scores only the modalities in S, as Eq. 3 is written; `available`
            scores all of X, which trains cross-modal prediction directly.
        pull: weight of the L2 pull of μ to 0 and σ to 1 (end of §3.2), of the posterior whose bound is trained.
    """

    subset_kl: NonNegativeFloat = 1.0
    full_kl: NonNegativeFloat = 0.1
    subset_likelihood: NonNegativeFloat = 0.5
    ramp_steps: NonNegativeInt = 200
    keep: Probability | dict[str, Probability] = 0.5
    full_set: float = Field(default=0.0, ge=0.0, le=1.0)
    reconstruct: Literal["available", "observed"] = "available"
    pull: NonNegativeFloat = 0.0

    @property
    def coordinated(self) -> bool:
        """Whether the posteriors of subsets are drawn to that of the whole set."""
        return self.subset_kl > 0.0

    @model_validator(mode="after")
    def _settings_agree(self) -> "SMVAESettings":
        if not self.coordinated and self.full_kl > 0.0:
            raise ValueError(
                f"expected full_kl 0 where subset_kl is 0, found {self.full_kl:g}: the whole set would be drawn to "
                "posteriors of subsets whose σ nothing trains; set full_kl to 0, or subset_kl above 0"
            )
        if self.coordinated and self.full_set > 0.0:
            raise ValueError(
                f"expected full_set 0 with coordination (subset_kl {self.subset_kl:g}), found {self.full_set:g}: the "
                "whole set is trained in every step anyway; leave full_set out, or set subset_kl and full_kl to 0"
            )
        if self.coordinated and self.reconstruct == "observed":
            raise ValueError(
                f"expected reconstruct 'available' with coordination (subset_kl {self.subset_kl:g}), found 'observed': "
                "subsets are drawn to a posterior that explains everything; set subset_kl and full_kl to 0 for Eq. 3"
            )
        if self.coordinated and self.keep == 1.0:
            raise ValueError("expected keep below 1 with coordination, found 1: no subset would ever be drawn")
        return self

    def ramp(self, step: int) -> float:
        """Return the part of `subset_kl` and `full_kl` that counts at a step counted from 0."""
        return min(1.0, step / self.ramp_steps) if self.ramp_steps else 1.0

    def named_modalities(self) -> set[str]:
        """Return the modalities that `keep` names."""
        return set(self.keep) if isinstance(self.keep, dict) else set()

    def keep_of(self, names: Sequence[str]) -> Tensor:
        """Return the probability that each modality is kept, (M,)."""
        by_name = self.keep if isinstance(self.keep, dict) else dict.fromkeys(names, self.keep)
        return torch.tensor([by_name.get(name, 0.5) for name in names])


PAPER = SMVAESettings(subset_kl=0.0, full_kl=0.0, full_set=0.0, reconstruct="observed")
"""The settings of the SMVAE paper itself, `smvae-paper` in tables; those of Appendix B where a run has them."""


class SetAttention(nn.Module):
    """The set encoder g_φ (Eq. 8 and Table 2).

    Eq. 8 gives the learned query I, both skip connections, the output projection W^o and f. Table 2 gives the Swish on
    keys and values, the unprojected query, the LayerNorm after the first skip and the two linear heads. No position is
    encoded, so the order of the modalities cannot matter.

    Raises:
        ValueError: `embedding` is not a multiple of `heads`.
    """

    def __init__(self, embedding: int, latent: int, heads: int) -> None:
        super().__init__()
        if embedding % heads:
            raise ValueError(f"embedding must be a multiple of heads, found {embedding} and {heads}")
        self.embedding = embedding
        self.heads = heads
        self.query = nn.Parameter(torch.randn(embedding) / math.sqrt(embedding))
        self.key = nn.Sequential(nn.Linear(embedding, embedding), nn.SiLU())
        self.value = nn.Sequential(nn.Linear(embedding, embedding), nn.SiLU())
        self.output = nn.Linear(embedding, embedding)
        self.norm = nn.LayerNorm(embedding)
        self.feed_forward = nn.Linear(embedding, embedding)
        self.mean = nn.Linear(embedding, latent)
        self.log_variance = nn.Linear(embedding, latent)

    def forward(self, embeddings: Tensor, mask: Tensor) -> Posterior:
        """Return the posterior of each row's set.

        Args:
            embeddings: (B, M, d); absent slots have no influence.
            mask: (..., B, M), bool, True where the modality is in the set. A row without any gives the prior N(0, I).
                With more dimensions than two, several sets of the same embeddings.
        """
        rows, slots, _ = embeddings.shape
        split = (rows, slots, self.heads, self.embedding // self.heads)
        embeddings = bounded_embeddings(embeddings)
        key = self.key(embeddings).view(split)
        value = self.value(embeddings).view(split)
        query = self.query.view(self.heads, -1)

        absent = ~mask.unsqueeze(-2)
        score = torch.einsum("hd,bmhd->bhm", query, key) / math.sqrt(split[-1])
        score = score.masked_fill(absent, -math.inf)
        # Softmax over no slot at all is 0/0; such rows become the prior below.
        weight = score.softmax(dim=-1).masked_fill(absent, 0.0)
        # Eq. 8: H = I + MultiHead(I, X_s, X_s), then g = H + f(H).
        attended = torch.einsum("...bhm,bmhd->...bhd", weight, value).flatten(-2)
        hidden = self.norm(self.query + self.output(attended))
        summary = hidden + self.feed_forward(hidden)
        log_variance = bounded_log_variance(at_least_single(self.log_variance(summary)))
        observed = mask.any(dim=-1, keepdim=True)
        return Posterior(
            mean=torch.where(observed, at_least_single(self.mean(summary)), 0.0),
            log_variance=torch.where(observed, log_variance, 0.0),
            attention=at_least_single(weight.mean(dim=-2)),
        )


def random_subsets(
    available: Tensor, settings: SMVAESettings, generator: torch.Generator, names: Sequence[str] | None = None
) -> Tensor:
    """Draw X_s ~ P(X) for each row (Eq. 4), never empty where the row has anything: (B, M), bool.

    Args:
        available: (B, M), bool, on the processor.
        settings: `full_set` and `keep` say how likely each subset is.
        generator: of the processor; the same state draws the same subsets.
        names: modalities of the columns; needed where `settings.keep` names some.
    """
    rows, columns = available.shape
    probability = torch.tensor(settings.keep) if names is None else settings.keep_of(names)
    keep = torch.rand(rows, columns, generator=generator) < probability
    full = torch.rand(rows, 1, generator=generator) < settings.full_set
    subset = available & (keep | full)
    # A row that drew nothing keeps one modality of its own, each equally likely.
    chosen = torch.rand(rows, columns, generator=generator).masked_fill(~available, -1.0).argmax(dim=1, keepdim=True)
    one = torch.zeros_like(available).scatter(1, chosen, True) & available
    return torch.where(subset.any(dim=1, keepdim=True), subset, one)


def _network(names: Sequence[str], embedding: int, latent: int, heads: int, memory: bool) -> SetAttention:
    return SetAttention(embedding, latent, heads)


def _draw(
    settings: SMVAESettings, available: Tensor, latent: int, names: Sequence[str], generator: torch.Generator
) -> Draws:
    subset = random_subsets(available, settings, generator, names)
    whole = everything(available)
    if not settings.coordinated:
        targets = available if settings.reconstruct == "available" else subset
        return Draws.of(subset[None], targets[None], whole, latent, generator)
    explained = settings.subset_likelihood > 0.0
    return Draws.of(
        subsets=torch.stack([available, subset]),
        targets=torch.stack([available, available & explained]),
        explains=torch.cat([whole, whole & explained]),
        latent=latent,
        generator=generator,
        clean=(0,),
    )


def _terms(network: SetAttention, step: Step, settings: SMVAESettings) -> Terms:
    return (_coordinated if settings.coordinated else _eq_3)(network, step, settings)


def _eq_3(network: SetAttention, step: Step, settings: SMVAESettings) -> Terms:
    """Compute Eq. 3, the ELBO of a random subset, and the pull at the end of §3.2."""
    draws = step.draws
    posterior: Posterior = network(step.embeddings, draws.subsets[0])
    kl = posterior.kl_to_prior()
    cost = step.beta * _kl_to_reference(network, posterior, step) + settings.pull * _distance_to_standard(posterior)
    return Terms(posterior.sample(draws.noise), equal_weights(draws), cost, kl)


def _coordinated(network: SetAttention, step: Step, settings: SMVAESettings) -> Terms:
    """Compute the coordinated bound; sg is a stop-gradient.

    E_q(z|X)[Σ λ_m log p(x_m | z)] - β KL(q(z|X) ‖ p(z)) - a_s KL(sg q(z|X) ‖ q(z|S)) - a_f KL(q(z|X) ‖ sg q(z|S))
    + r Σ λ_m log p(x_m | μ_S + sg(σ_S) ε).
    """
    draws = step.draws
    full: Posterior = network(step.clean, draws.subsets[0])
    part: Posterior = network(step.embeddings, draws.subsets[1])
    kl = full.kl_to_prior()
    coordination = settings.subset_kl * gaussian_kl(fixed(full), part) + settings.full_kl * gaussian_kl(
        full, fixed(part)
    )
    # The likelihood would shrink σ_S, which the first KL alone is to determine.
    predicting = part._replace(log_variance=part.log_variance.detach())
    z = torch.stack([full.sample(draws.noise[0]), predicting.sample(draws.noise[1])])
    weight = equal_weights(draws)
    weight[1] = settings.subset_likelihood
    bound = step.beta * _kl_to_reference(network, full, step)
    cost = bound + step.ramp * coordination + settings.pull * _distance_to_standard(full)
    return Terms(z, weight, cost, kl)


def _kl_to_reference(network: SetAttention, posterior: Posterior, step: Step) -> Tensor:
    """Return the KL to N(0, I), or to q(z|{h}) where there is memory, (B,)."""
    if step.remembered is None:
        return posterior.kl_to_prior()
    alone = torch.zeros_like(step.draws.subsets[0])
    alone[:, -1] = step.remembered
    return kl_to_forecast(posterior, network(step.clean, alone), step)


def _distance_to_standard(posterior: Posterior) -> Tensor:
    """Return |μ|² + |σ - 1|², (B,) (end of §3.2)."""
    sigma = (0.5 * posterior.log_variance).exp()
    return (posterior.mean.square() + (sigma - 1.0).square()).sum(dim=1)


def _memory(
    settings: SMVAESettings, draws: Draws, remembered: Tensor, degraded: Tensor, generator: torch.Generator
) -> Draws:
    """Put memory in the whole set and in most subsets.

    With coordination, some subsets become memory alone, and some the degraded set, which is what the robot fuses while
    a sensor is off.
    """
    chance = torch.rand(draws.subsets.shape[:2], generator=generator)
    if not settings.coordinated:
        return draws.with_memory(remembered & (chance < _WITH_MEMORY))
    column = remembered & (chance < _WITH_MEMORY)
    column[0] = remembered
    alone = remembered & (chance[1] < _ALONE)
    like_robot = ~alone & (chance[1] < _ALONE + _DEGRADED) & (degraded.any(dim=1) | remembered)
    subset = torch.where(like_robot[:, None], degraded, draws.subsets[1] & ~alone[:, None])
    return replace(draws, subsets=torch.stack([draws.subsets[0], subset])).with_memory(column)


SYSTEM = System(settings=SMVAESettings, network=_network, draw=_draw, terms=_terms, memory=_memory)

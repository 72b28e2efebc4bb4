"""SMVAE (Zhou et al.): one set encoder for any subset, trained on random subsets."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.draws import Draws, everything
from smvae_core.systems.posterior import Posterior, at_least_single
from smvae_core.systems.system import System
from smvae_core.systems.terms import Step, Terms, equal_weights

Probability = Annotated[float, Field(gt=0.0, le=1.0)]


class SMVAESettings(ObjectiveConfiguration):
    """The settings of SMVAE's objective.

    Attributes:
        full_set: probability that a sample trains with everything it has; otherwise each modality is kept with
            probability `keep`, at least one.
        keep: see `full_set`; one for all modalities, or by name (0.5 for those not named). 0.5 draws uniformly from the
            power set of Eq. 4; a draw that is empty becomes one modality.
        reconstruct: `observed` scores only the modalities in the subset, as Eq. 3 is written; `available` scores all
            that the sample has, which trains cross-modal prediction directly.
        pull: weight of the L2 pull of μ to 0 and σ to 1 (end of §3.2).
    """

    full_set: float = Field(default=0.2, ge=0.0, le=1.0)
    keep: Probability | dict[str, Probability] = 0.5
    reconstruct: Literal["available", "observed"] = "available"
    pull: NonNegativeFloat = 0.0

    def named_modalities(self) -> set[str]:
        """Return the modalities that `keep` names."""
        return set(self.keep) if isinstance(self.keep, dict) else set()

    def keep_of(self, names: Sequence[str]) -> Tensor:
        """Return the probability that each modality is kept, (M,)."""
        by_name = self.keep if isinstance(self.keep, dict) else dict.fromkeys(names, self.keep)
        return torch.tensor([by_name.get(name, 0.5) for name in names])


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
            embeddings: (B, M, d); what stands in absent slots must be finite and has no influence.
            mask: (..., B, M), bool, True where the modality is in the set. A row without any gives the prior N(0, I).
                With more dimensions than two, several sets of the same embeddings.
        """
        rows, slots, _ = embeddings.shape
        split = (rows, slots, self.heads, self.embedding // self.heads)
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
        observed = mask.any(dim=-1, keepdim=True)
        return Posterior(
            mean=torch.where(observed, at_least_single(self.mean(summary)), 0.0),
            log_variance=torch.where(observed, at_least_single(self.log_variance(summary)), 0.0),
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


def _network(names: Sequence[str], embedding: int, latent: int, heads: int) -> SetAttention:
    return SetAttention(embedding, latent, heads)


def _draw(
    settings: SMVAESettings, available: Tensor, latent: int, names: Sequence[str], generator: torch.Generator
) -> Draws:
    subset = random_subsets(available, settings, generator, names)
    targets = available if settings.reconstruct == "available" else subset
    return Draws.of(subset[None], targets[None], everything(available), latent, generator)


def _terms(network: SetAttention, step: Step, settings: SMVAESettings) -> Terms:
    """Compute Eq. 3, the ELBO of a random subset, and the pull at the end of §3.2."""
    draws = step.draws
    posterior: Posterior = network(step.embeddings, draws.subsets[0])
    kl, sigma = posterior.kl_to_prior(), (0.5 * posterior.log_variance).exp()
    pull = (posterior.mean.square() + (sigma - 1.0).square()).sum(dim=1)
    return Terms(posterior.sample(draws.noise), equal_weights(draws), step.beta * kl + settings.pull * pull, kl)


SYSTEM = System(settings=SMVAESettings, network=_network, draw=_draw, terms=_terms)

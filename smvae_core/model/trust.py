"""The network behind trust: competing hypotheses about a set, that all is well or that one modality is faulty.

Each modality m has two small heads. `agrees` gives s_m(x_m; C), how much better x_m fits what a context C tells of it
than a faulty one would. The context is q(z | C), C being other modalities and, where the model has one, its memory.
`alone` gives g_m(x_m), how much x_m looks like a faulty one by itself. Both see the embedding of x_m and its traits
(`model.traits`), and what has changed in them and in q(z | C) since the set before and since about half a second ago: a
frozen camera stays while the rest moves. Of each trait they also see how still it is, so that one channel that stopped
shows while the other channels of its sensor go on.

The logit of "all is well" is Σ_m s_m(x_m; all others). The logit of "j is faulty" is g_j(x_j) + Σ_{m≠j} s_m(x_m; all
others without j): j explains nothing, and the rest must agree without it. So the modality that spoils the agreement is
blamed, and not the one that exposes it. Nothing is decoded.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from smvae_core.systems.posterior import Posterior

LEAST_TRAIT = 4e-3
"""The least scale of a trait, one step of a byte: smaller changes of a trait that never changes are no evidence."""
FAULTY = 0.5
"""The part of the sets in the training of trust that have a faulty modality."""
STILL = 1e-3
"""What counts as no change of the traits from set to set."""
LEAST_STILL = 0.3
"""The least scale of the logarithm of a trait's change."""


class Moment(NamedTuple):
    """Sets at one time, as the posterior network takes them.

    Attributes:
        embeddings: (B, C, d); the first M columns are the modalities, one more is memory, if the model has it.
        mask: (B, C), bool, what is there.
        traits: (B, M, F), of the modalities.
    """

    embeddings: Tensor
    mask: Tensor
    traits: Tensor


class Told(NamedTuple):
    """The posteriors of P contexts of sets.

    Attributes:
        mean, log_variance: (P, B, L).
        there: whether there is any context, (P, B, 1), bool.
    """

    mean: Tensor
    log_variance: Tensor
    there: Tensor


class TrustNetwork(nn.Module):
    """The heads of all modalities.

    Args:
        modalities: number of modalities, M.
        width: dimensions of an embedding, d.
        latent: dimensions of z, L.
        hidden: width of the heads.
        traits: traits that the heads see, F; 0 for heads that see embeddings alone.
        each_still: whether they see how still each trait is; else how still all are on average.
    """

    embedding_mean: Tensor
    embedding_scale: Tensor
    change_scale: Tensor
    context_scale: Tensor
    trait_mean: Tensor
    trait_scale: Tensor
    still_mean: Tensor
    still_scale: Tensor

    def __init__(
        self, modalities: int, width: int, latent: int, hidden: int = 64, traits: int = 0, each_still: bool = True
    ) -> None:
        super().__init__()
        self.modalities, self.hidden, self.traits, self.each_still = modalities, hidden, traits, each_still
        inputs = 3 * width + 2 + (3 * traits + 2 * (traits if each_still else 1) if traits else 0)
        self.own = nn.ModuleList(nn.Linear(inputs, 2 * hidden) for _ in range(modalities))
        self.context = nn.ModuleList(nn.Linear(3 * latent + 2, hidden) for _ in range(modalities))
        self.agrees = nn.ModuleList(_output(hidden) for _ in range(modalities))
        self.alone = nn.ModuleList(_output(hidden) for _ in range(modalities))
        self.register_buffer("embedding_mean", torch.zeros(modalities, width))
        self.register_buffer("embedding_scale", torch.ones(modalities, width))
        self.register_buffer("change_scale", torch.ones(modalities, width))
        self.register_buffer("context_scale", torch.ones(latent))
        if traits:
            self.register_buffer("trait_mean", torch.zeros(modalities, traits))
            self.register_buffer("trait_scale", torch.ones(modalities, traits))
        if traits and each_still:
            self.register_buffer("still_mean", torch.zeros(modalities, traits))
            self.register_buffer("still_scale", torch.ones(modalities, traits))

    def standardise(
        self, embeddings: Tensor, changes: Tensor, means: Tensor, traits: Tensor, trait_changes: Tensor
    ) -> None:
        """Measure the scales of the inputs on healthy sets.

        Args:
            embeddings: (N, M, d).
            changes: of the embeddings from set to set, (N, M, d).
            means: of the latent, (N, L).
            traits: (N, M, F).
            trait_changes: of the traits from set to set, (N, M, F).
        """
        self.embedding_mean.copy_(embeddings.mean(dim=0))
        self.embedding_scale.copy_(embeddings.std(dim=0).clamp_min(1e-3))
        self.change_scale.copy_(changes.std(dim=0).clamp_min(1e-3))
        self.context_scale.copy_(means.std(dim=0).clamp_min(1e-3))
        if self.traits:
            self.trait_mean.copy_(traits.mean(dim=0))
            self.trait_scale.copy_(traits.std(dim=0).clamp_min(LEAST_TRAIT))
        if self.traits and self.each_still:
            logarithms = _log(trait_changes / self.trait_scale)
            self.still_mean.copy_(logarithms.mean(dim=0))
            self.still_scale.copy_(logarithms.std(dim=0).clamp_min(LEAST_STILL))

    def forward(self, fusion: nn.Module, now: Moment, before: Moment, past: Moment) -> Tensor:
        """Return the logits of the hypotheses, (B, 1 + M): all is well, and each modality faulty; -inf where absent.

        Args:
            fusion: the posterior network of the model.
            now: what is judged.
            before: the same sets one set earlier; an empty mask where there was none.
            past: the same sets about half a second earlier.
        """
        contexts = self.contexts(self.told(fusion, now), self.told(fusion, past))
        return self.judge(now, before, past, contexts)

    def pairs(self) -> list[tuple[int, int]]:
        """Return the modalities that each context lacks; one without m and j, in either order, is computed once."""
        return [(m, j) for m in range(self.modalities) for j in range(m, self.modalities)]

    def places(self) -> Tensor:
        """Return the place among `pairs` of the context without m and j, (M, M)."""
        place = {pair: row for row, pair in enumerate(self.pairs())}
        each = range(self.modalities)
        return torch.tensor([[place[min(m, j), max(m, j)] for j in each] for m in each])

    def kept(self, columns: int) -> Tensor:
        """Return which columns of a set stay in each of the contexts of `pairs`, (P, C), bool."""
        pairs = self.pairs()
        kept = torch.ones(len(pairs), columns, dtype=torch.bool)
        for row, pair in enumerate(pairs):
            kept[row, list(pair)] = False
        return kept

    def told(self, fusion: nn.Module, moment: Moment) -> Told:
        """Return what every context tells, without each one and each two of the modalities."""
        given = self.kept(moment.mask.shape[1])[:, None].to(moment.mask.device) & moment.mask
        posterior: Posterior = fusion(moment.embeddings, given)
        return Told(posterior.mean, posterior.log_variance, given.any(dim=-1, keepdim=True))

    def contexts(self, now: Told, past: Told) -> Tensor:
        """Return the features of each context, (M, M, B, 3L + 2): row m, column j without m and j, j = m without m.

        They are the mean and log variance of q(z | C), the change of the mean since `past`, and whether there is a past
        and any context at all.
        """
        change = torch.where(now.there & past.there, (now.mean - past.mean) / self.context_scale, 0.0)
        mean = now.mean / self.context_scale
        found = torch.cat([mean, now.log_variance, change, past.there.to(mean), now.there.to(mean)], dim=-1)
        return found[self.places().to(found.device)]

    def judge(self, now: Moment, before: Moment, past: Moment, contexts: Tensor) -> Tensor:
        """Return what `forward` returns, from the result of `contexts`."""
        m, mask = self.modalities, now.mask[:, : self.modalities]
        own = self._own(now, before, past)
        agreement, alone = [], []
        for i in range(m):
            features: Tensor = self.own[i](own[:, i])
            first, second = features.chunk(2, dim=-1)
            # (M, B): the agreement of modality i, in each column's absence.
            score = self.agrees[i](first + self.context[i](contexts[i]))[..., 0]
            agreement.append(torch.where(mask[:, i], score, 0.0))
            alone.append(self.alone[i](second)[..., 0])
        table = torch.stack(agreement)  # (M of whom, M without whom, B)
        everyone = table.diagonal(dim1=0, dim2=1)  # (B, M)
        healthy = everyone.sum(dim=-1)
        faulty = table.sum(dim=0).T - everyone + torch.stack(alone, dim=-1)
        faulty = faulty.masked_fill(~mask, -torch.inf)
        return torch.cat([healthy[:, None], faulty], dim=-1)

    def stillness(self, change: Tensor) -> Tensor:
        """Return how much the traits changed, (B, M, F), on a logarithmic scale: what is frozen does not change at all.

        Each trait counts, since one channel of a sensor may stop while the others go on. The heads of older checkpoints
        see the mean of all, (B, M, 1).
        """
        if self.each_still:
            return (_log(change) - self.still_mean) / self.still_scale
        return _log(change.abs().mean(dim=-1, keepdim=True))

    def _own(self, now: Moment, before: Moment, past: Moment) -> Tensor:
        """Return the features of each modality by itself, (B, M, inputs of `own`)."""
        m, f = self.modalities, self.traits
        x, t = now.embeddings[:, :m], now.traits[..., :f]
        parts = [(x - self.embedding_mean) / self.embedding_scale]
        traits = [(t - self.trait_mean) / self.trait_scale] if f else []
        flags, stillness = [], []
        for other in (before, past):
            known = (now.mask & other.mask)[:, :m, None]
            parts.append(torch.where(known, (x - other.embeddings[:, :m]) / self.change_scale, 0.0))
            flags.append(known.to(x))
            if f:
                change = torch.where(known, (t - other.traits[..., :f]) / self.trait_scale, 0.0)
                traits.append(change)
                stillness.append(torch.where(known, self.stillness(change), 0.0))
        return torch.cat(
            [part.clamp(-20.0, 20.0) for part in parts]
            + flags
            + [part.clamp(-20.0, 20.0) for part in traits]
            + stillness,
            dim=-1,
        )


def prior_log_odds(modalities: int) -> float:
    """Return the log odds that one modality of a set of the training is faulty: those of a set that tells nothing."""
    part = FAULTY / modalities
    return math.log(part / (1.0 - part))


def _log(change: Tensor) -> Tensor:
    return (change.abs() + STILL).log()


def _output(hidden: int) -> nn.Module:
    return nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1))

"""The network behind trust: competing hypotheses about a set, that all is well or that one modality is faulty.

Each modality m has two small heads. `agrees` gives s_m(x_m; C), how much better x_m fits what a context C tells of it
than a faulty one would. The context is q(z | C), C being other modalities and, where the model has one, its memory.
`alone` gives g_m(x_m), how much x_m looks like a faulty one by itself. Both also see what has changed since the set
before and since about half a second ago, in the embedding and in q(z | C): a frozen camera stays while the rest moves.

The logit of "all is well" is Σ_m s_m(x_m; all others). The logit of "j is faulty" is g_j(x_j) + Σ_{m≠j} s_m(x_m; all
others without j): j explains nothing, and the rest must agree without it. So the modality that spoils the agreement is
blamed, and not the one that exposes it. Nothing is decoded.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from smvae_core.systems.posterior import Posterior


class Moment(NamedTuple):
    """Sets at one time, as the posterior network takes them.

    Attributes:
        embeddings: (B, C, d); the first M columns are the modalities, one more is memory, if the model has it.
        mask: (B, C), bool, what is there.
    """

    embeddings: Tensor
    mask: Tensor


class TrustNetwork(nn.Module):
    """The heads of all modalities.

    Args:
        modalities: number of modalities, M.
        width: dimensions of an embedding, d.
        latent: dimensions of z, L.
        hidden: width of the heads.
    """

    embedding_mean: Tensor
    embedding_scale: Tensor
    change_scale: Tensor
    context_scale: Tensor

    def __init__(self, modalities: int, width: int, latent: int, hidden: int = 64) -> None:
        super().__init__()
        self.modalities, self.hidden = modalities, hidden
        self.own = nn.ModuleList(nn.Linear(3 * width + 2, 2 * hidden) for _ in range(modalities))
        self.context = nn.ModuleList(nn.Linear(3 * latent + 2, hidden) for _ in range(modalities))
        self.agrees = nn.ModuleList(_output(hidden) for _ in range(modalities))
        self.alone = nn.ModuleList(_output(hidden) for _ in range(modalities))
        self.register_buffer("embedding_mean", torch.zeros(modalities, width))
        self.register_buffer("embedding_scale", torch.ones(modalities, width))
        self.register_buffer("change_scale", torch.ones(modalities, width))
        self.register_buffer("context_scale", torch.ones(latent))

    def standardise(self, embeddings: Tensor, changes: Tensor, means: Tensor) -> None:
        """Measure the scales of the inputs on healthy embeddings (N, M, d), their changes and latent means (N, L)."""
        self.embedding_mean.copy_(embeddings.mean(dim=0))
        self.embedding_scale.copy_(embeddings.std(dim=0).clamp_min(1e-3))
        self.change_scale.copy_(changes.std(dim=0).clamp_min(1e-3))
        self.context_scale.copy_(means.std(dim=0).clamp_min(1e-3))

    def forward(self, fusion: nn.Module, now: Moment, before: Moment, past: Moment) -> Tensor:
        """Return the logits of the hypotheses, (B, 1 + M): all is well, and each modality faulty; -inf where absent.

        Args:
            fusion: the posterior network of the model.
            now: what is judged.
            before: the same sets one set earlier; an empty mask where there was none.
            past: the same sets about half a second earlier.
        """
        contexts = self.contexts(fusion, now, past)
        return self.judge(now, before, past, contexts)

    def contexts(self, fusion: nn.Module, now: Moment, past: Moment) -> Tensor:
        """Return what each context tells, (M, M, B, 3L + 2): row m and column j without m and j, j = m without m.

        The features are the mean and log variance of q(z | C), the change of the mean since `past`, and whether there
        is a past and any context at all.
        """
        # Without m and j is without j and m, so it is computed once.
        left_out = [(m, j) for m in range(self.modalities) for j in range(m, self.modalities)]
        kept = torch.ones(len(left_out), 1, now.mask.shape[1], dtype=torch.bool, device=now.mask.device)
        for row, pair in enumerate(left_out):
            kept[row, 0, list(pair)] = False
        given, known = kept & now.mask, kept & past.mask
        posterior: Posterior = fusion(now.embeddings, given)
        earlier: Posterior = fusion(past.embeddings, known)
        there, was_there = (mask.any(dim=-1, keepdim=True) for mask in (given, known))
        change = torch.where(there & was_there, (posterior.mean - earlier.mean) / self.context_scale, 0.0)
        mean = posterior.mean / self.context_scale
        found = torch.cat([mean, posterior.log_variance, change, was_there.to(mean), there.to(mean)], dim=-1)
        place = {pair: row for row, pair in enumerate(left_out)}
        each = range(self.modalities)
        index = torch.tensor([[place[min(m, j), max(m, j)] for j in each] for m in each], device=found.device)
        return found[index]

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

    def _own(self, now: Moment, before: Moment, past: Moment) -> Tensor:
        """Return the features of each modality by itself, (B, M, 3d + 2)."""
        m = self.modalities
        x = now.embeddings[:, :m]
        parts = [(x - self.embedding_mean) / self.embedding_scale]
        flags = []
        for other in (before, past):
            known = (now.mask & other.mask)[:, :m, None]
            parts.append(torch.where(known, (x - other.embeddings[:, :m]) / self.change_scale, 0.0))
            flags.append(known.to(x))
        return torch.cat([part.clamp(-20.0, 20.0) for part in parts] + flags, dim=-1)


def _output(hidden: int) -> nn.Module:
    return nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1))

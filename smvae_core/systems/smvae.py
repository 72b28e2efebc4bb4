"""The posterior of a set: from the embeddings of whatever is present to what they say of the latent."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from smvae_core.model.networks import NetworkSizes
from smvae_core.systems.experts import JointAndUnimodal, MixtureOfProducts, ProductOfExperts
from smvae_core.systems.posterior import Posterior, at_least_single

System = Literal["smvae", "mvae", "mmvae", "mopoe", "jmvae", "crmvae"]
"""The papers' names of their models; each is a posterior of a set, here, and an objective, in `elbo.bounds`."""


def fusion_network(system: System, names: Sequence[str], latent: int, sizes: NetworkSizes) -> nn.Module:
    """Embeddings (B, M, d) of sets and their masks (..., B, M) to the sets' `Posterior`.

    Args:
        names: of the modalities, in the order of the mask's columns.
    """
    return _FUSION[system](names, latent, sizes)


class SetAttention(nn.Module):
    """The set encoder g_φ of SMVAE (Eq. 8 and Table 2 of the SMVAE paper).

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
        """The posterior of each row's set.

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
        attended = torch.einsum("...bhm,bmhd->...bhd", weight, value).flatten(-2)

        hidden = self.norm(self.query + self.output(attended))
        summary = hidden + self.feed_forward(hidden)
        observed = mask.any(dim=-1, keepdim=True)
        return Posterior(
            mean=torch.where(observed, at_least_single(self.mean(summary)), 0.0),
            log_variance=torch.where(observed, at_least_single(self.log_variance(summary)), 0.0),
            attention=at_least_single(weight.mean(dim=-2)),
        )


_FUSION: dict[System, Callable[[Sequence[str], int, NetworkSizes], nn.Module]] = {
    "smvae": lambda names, latent, sizes: SetAttention(sizes.embedding, latent, sizes.heads),
    "mvae": lambda names, latent, sizes: ProductOfExperts(names, sizes.embedding, latent, prior=True),
    "mmvae": lambda names, latent, sizes: MixtureOfProducts(names, sizes.embedding, latent, most=1),
    "mopoe": lambda names, latent, sizes: MixtureOfProducts(names, sizes.embedding, latent, most=len(names)),
    "jmvae": lambda names, latent, sizes: JointAndUnimodal(names, sizes.embedding, latent),
    "crmvae": lambda names, latent, sizes: ProductOfExperts(names, sizes.embedding, latent, prior=False),
}

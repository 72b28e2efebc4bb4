"""The set encoder of SMVAE with the same weights in fewer operations, for inference alone.

Keys and values are one matrix product. The query is folded into the scores, and the feed-forward layer, which has no
activation, into the heads of mean and log variance. The result differs from the encoder's by rounding.
"""

import math

import torch
from torch import Tensor, nn

from smvae_core.systems.posterior import Posterior, bounded_embeddings, bounded_log_variance
from smvae_core.systems.smvae import SetAttention

# The score of an absent slot: its weight beside a present one is exactly 0, and a set of none has no NaN.
_ABSENT = -1e30


class FoldedAttention(nn.Module):
    """A `SetAttention`, folded, with a copy of its weights."""

    both: Tensor
    both_bias: Tensor
    query: Tensor
    of_head: Tensor
    output: Tensor
    output_bias: Tensor
    heads: Tensor
    heads_bias: Tensor

    def __init__(self, attention: SetAttention) -> None:
        super().__init__()
        d, heads = attention.embedding, attention.heads
        key, value = attention.key[0], attention.value[0]
        assert isinstance(key, nn.Linear) and isinstance(value, nn.Linear)
        self.embedding = d
        # (d, 2d): keys, then values.
        self.register_buffer("both", torch.cat([key.weight, value.weight]).T.detach().contiguous())
        self.register_buffer("both_bias", torch.cat([key.bias, value.bias]).detach())
        # (d, heads): the product of a key with the query of each head; (heads, d): a head's weight on its entries.
        of_head = torch.repeat_interleave(torch.eye(heads, dtype=key.weight.dtype), d // heads, dim=0)
        of_head = of_head.to(key.weight.device)
        self.register_buffer("query", attention.query.detach()[:, None] * of_head / math.sqrt(d // heads))
        self.register_buffer("of_head", of_head.T.contiguous())
        self.register_buffer("output", attention.output.weight.T.detach().contiguous())
        self.register_buffer("output_bias", (attention.output.bias + attention.query).detach())
        self.norm = attention.norm
        heads_weight = torch.cat([attention.mean.weight, attention.log_variance.weight]).detach()
        heads_bias = torch.cat([attention.mean.bias, attention.log_variance.bias]).detach()
        forward = attention.feed_forward
        identity = torch.eye(d, dtype=heads_weight.dtype, device=heads_weight.device)
        self.register_buffer("heads", (heads_weight @ (identity + forward.weight.detach())).T.contiguous())
        self.register_buffer("heads_bias", heads_weight @ forward.bias.detach() + heads_bias)

    def forward(self, embeddings: Tensor, mask: Tensor) -> Posterior:
        """Return the posterior as `SetAttention.forward` does; arguments as there."""
        both = nn.functional.silu(bounded_embeddings(embeddings) @ self.both + self.both_bias)
        key, value = both.split(self.embedding, dim=-1)
        present = mask[..., None]
        weight = torch.where(present, key @ self.query, _ABSENT).softmax(dim=-2) * present.to(key.dtype)
        attended = ((weight @ self.of_head) * value).sum(dim=-2)
        summary = self.norm(attended @ self.output + self.output_bias)
        mean, log_variance = (summary @ self.heads + self.heads_bias).chunk(2, dim=-1)
        observed = mask.any(dim=-1, keepdim=True)
        return Posterior(
            mean=torch.where(observed, mean, 0.0),
            log_variance=torch.where(observed, bounded_log_variance(log_variance), 0.0),
            attention=weight.mean(dim=-1),
        )


def folded_fusion(fusion: nn.Module) -> nn.Module:
    """Return the posterior network of a trained model, folded where it is set attention."""
    return FoldedAttention(fusion) if type(fusion) is SetAttention else fusion

"""The folded set encoder gives what the set encoder gives, whatever is in the sets."""

import torch

from smvae_core.inference.folded_attention import FoldedAttention, folded_fusion
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE
from smvae_core.systems.smvae import SetAttention


def test_every_subset_of_several_sets_has_the_same_posterior() -> None:
    torch.manual_seed(0)
    attention = SetAttention(32, 8, 4).eval()
    torch.nn.init.normal_(attention.norm.weight)
    embeddings = 5.0 * torch.randn(3, 5, 32)
    embeddings[0, 1, 2], embeddings[1, 0, 0] = torch.nan, torch.inf
    mask = torch.tensor([[bool(subset >> column & 1) for column in range(5)] for subset in range(32)])
    with torch.inference_mode():
        for given in (mask[:, None].expand(-1, 3, -1), mask[:3]):
            for found, expected in zip(FoldedAttention(attention)(embeddings, given), attention(embeddings, given)):
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_empty_set_is_exactly_the_prior_and_absent_slots_weigh_nothing() -> None:
    torch.manual_seed(0)
    posterior = FoldedAttention(SetAttention(32, 8, 4).eval())(
        torch.randn(1, 3, 32), torch.tensor([[False] * 3, [True, False, True]])[:, None]
    )
    assert not posterior.mean[0].any() and not posterior.log_variance[0].any() and not posterior.attention[0].any()
    assert posterior.attention[1, 0, 1] == 0.0


def test_other_posterior_networks_stay_as_they_are() -> None:
    network = MultimodalVAE(ModelConfiguration(system="mvae", size="tiny", latent=8)).fusion
    assert folded_fusion(network) is network

"""The graph of trust agrees with PyTorch, for heads that see traits and for heads that do not."""

import pytest
import torch

from smvae_core.inference.trust_graph import TrustGraph
from smvae_core.model.memory import MemoryConfiguration
from smvae_core.model.traits import trait_count
from smvae_core.model.trust import Moment, TrustNetwork
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE


@pytest.mark.parametrize("sees_traits", [False, True])
def test_a_graph_takes_the_traits_that_its_heads_see(sees_traits: bool) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model = MultimodalVAE(ModelConfiguration(size="tiny", latent=8, memory=MemoryConfiguration(size=8))).eval()
    count = trait_count(model.configuration.modalities)
    network = TrustNetwork(4, model.width, 8, hidden=8, traits=count if sees_traits else 0).eval()

    def moment() -> Moment:
        return Moment(torch.randn(1, 5, model.width), torch.rand(1, 5) < 0.7, torch.randn(1, 4, count))

    graph = TrustGraph(model.fusion, network, moment())
    moments = [moment() for _ in range(3)]
    with torch.inference_mode():
        expected = network(model.fusion, *moments).double()
    torch.testing.assert_close(torch.from_numpy(graph(*moments)), expected, rtol=0.0, atol=1e-5)

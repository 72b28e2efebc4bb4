"""Batch normalisation folded into the layers before it: the same function."""

import pytest
import torch
from torch import nn

from smvae_core.inference.folding import folded
from smvae_core.modality import Modality
from smvae_core.model.networks import SIZES, decoder, embedding_network
from smvae_core.preprocessing import RGB, Vector

KINDS = {
    "image": Modality(name="x", source="x", preprocessing=RGB(size=32), network="image", likelihood="bernoulli"),
    "attributes": Modality(
        name="x", source="x", preprocessing=Vector(size=18), network="attributes", likelihood="normal"
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_folded_network_is_the_same_function_without_batch_normalisation(kind):
    torch.manual_seed(0)
    modality = KINDS[kind]
    networks = nn.ModuleList([embedding_network(modality, SIZES["tiny"]), decoder(modality, 8, SIZES["tiny"])]).eval()
    for module in networks.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    before = {name: tensor.clone() for name, tensor in networks.state_dict().items()}
    found = folded(networks)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in found.modules())
    for network, same, x in zip(networks, found, (torch.rand(3, *modality.shape), torch.randn(3, 8))):
        torch.testing.assert_close(same(x), network(x), atol=1e-5, rtol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in networks.state_dict().items())

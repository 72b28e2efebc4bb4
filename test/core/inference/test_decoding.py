"""A sense decoded in its own layout: the same likelihoods and predictions as the model's."""

from typing import get_args

import pytest
import torch

from smvae_core.inference.decoding import ModalityDecoder
from smvae_core.modality import LikelihoodKind, Modality
from smvae_core.model.likelihood import expectation, log_likelihood
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE
from smvae_core.preprocessing import Depth, Vector


@pytest.fixture(params=[(like, size) for like in get_args(LikelihoodKind) for size in ("tiny", "paper")], ids=str)
def model(request) -> MultimodalVAE:
    likelihood, size = request.param
    torch.manual_seed(0)
    image = Modality(
        name="image", source="x", preprocessing=Depth(size=64), network="image", likelihood=likelihood, scale=0.3
    )
    vector = Modality(
        name="vector", source="v", preprocessing=Vector(size=5), network="vector", likelihood=likelihood, scale=0.3
    )
    model = MultimodalVAE(ModelConfiguration(size=size, latent=8, modalities=(image, vector))).eval()
    for decoder in model.decoders.values():
        decoder[-1].weight.data *= 30
    return model


@pytest.mark.parametrize("phases", [True, False])
@pytest.mark.parametrize("name", ["image", "vector"])
def test_likelihoods_and_predictions_are_the_models(model: MultimodalVAE, name: str, phases: bool) -> None:
    modality, decoder = model.modalities[name], ModalityDecoder(model, name, phases)
    x, z = torch.rand(3, *modality.shape), torch.randn(6, 8)
    with torch.inference_mode():
        parameters, seen = decoder.parameters(z), decoder.laid_out(x)
        plain = model.decode(z)[name]
        torch.testing.assert_close(decoder.restored(parameters), plain, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            decoder.restored(decoder.expectation(z)), expectation(modality, plain), rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(
            decoder.log_likelihood(seen, parameters.unflatten(0, (2, 3))),
            log_likelihood(modality, x, plain.unflatten(0, (2, 3))),
            rtol=1e-5,
            atol=1e-5,
        )
        torch.testing.assert_close(
            decoder.log_likelihood_of_pairs(seen, parameters),
            log_likelihood(modality, x, plain[:, None]),
            rtol=1e-5,
            atol=1e-5,
        )

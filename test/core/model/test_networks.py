"""The networks of Tables 3 to 5: shapes, widths, and batches that hold no row or one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smvae_core.modality import Modality
from smvae_core.model.networks import SIZES, decoder, embedding_network
from smvae_core.model.sizes import NetworkError
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE
from smvae_core.preprocessing import Grey
from smvae_core.reproduce.experiments import EXPERIMENTS

NAMES = ("fashion-mnist", "mnist", "celeba")


def modalities(name: str) -> tuple[Modality, ...]:
    return EXPERIMENTS[name].modalities(EXPERIMENTS[name].formats[0], None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", ["paper", "tiny"])
def test_what_goes_in_comes_out_in_every_size(name, size):
    for modality in modalities(name):
        x = torch.rand(3, *modality.shape)
        embedding = embedding_network(modality, SIZES[size])(x)
        assert embedding.shape == (3, SIZES[size].embedding)
        assert decoder(modality, 7, SIZES[size])(torch.randn(3, 7)).shape == x.shape


@pytest.mark.parametrize(
    ("name", "modality", "encoder", "decoded"),
    [
        # Table 3: FC.512; FC.512, FC.784. Weights and biases.
        ("mnist", "image", 784 * 512 + 512, 64 * 512 + 512 + 512 * 784 + 784),
        ("mnist", "label", 10 * 512 + 512, 64 * 512 + 512 + 512 * 10 + 10),
        # Table 4: Conv.64, Conv.128, FC.512; FC.512, FC.128×7×7, DeConv.64, DeConv.1.
        (
            "fashion-mnist",
            "image",
            (16 * 64 + 64) + (64 * 128 * 16 + 128) + (6272 * 512 + 512),
            (64 * 512 + 512) + (512 * 6272 + 6272) + (128 * 64 * 16 + 64) + (64 * 16 + 1),
        ),
        # Table 5: FC.512.BN three times; FC.512.BN three times, FC.18. BN replaces the bias by scale and shift.
        (
            "celeba",
            "attributes",
            (18 * 512 + 1024) + 2 * (512 * 512 + 1024),
            (100 * 512 + 1024) + 2 * (512 * 512 + 1024) + (512 * 18 + 18),
        ),
    ],
)
def test_the_widths_are_those_of_the_tables(name, modality, encoder, decoded):
    found = next(m for m in modalities(name) if m.name == modality)
    latent = EXPERIMENTS[name].latent
    assert sum(p.numel() for p in embedding_network(found, SIZES["paper"]).parameters()) == encoder
    assert sum(p.numel() for p in decoder(found, latent, SIZES["paper"]).parameters()) == decoded


def test_an_image_whose_sides_cannot_be_halved_twice_is_refused():
    modality = Modality(
        name="odd", source="image", preprocessing=Grey(size=30), network="small_image", likelihood="bernoulli"
    )
    with pytest.raises(NetworkError, match="odd: network 'small_image' takes images whose sides are multiples of 4"):
        embedding_network(modality, SIZES["tiny"])


@settings(max_examples=20)
@given(st.integers(0, 5), st.integers(0, 2**16))
def test_attributes_may_be_absent_from_any_number_of_rows_in_training(present, seed):
    torch.manual_seed(seed)
    model = MultimodalVAE(ModelConfiguration(size="tiny", modalities=modalities("celeba"))).train()
    batch = {m.name: torch.rand(5, *m.shape) for m in model.modalities.values()}
    mask = torch.tensor([[True, row < present] for row in range(5)])
    posterior = model.posterior(batch, mask)
    assert posterior.mean.isfinite().all()
    posterior.mean.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    statistics = [b for n, b in model.named_buffers() if n.startswith("embeddings.attributes") and "running_var" in n]
    assert all((b == 1).all() for b in statistics) == (present < 2)

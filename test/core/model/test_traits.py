"""Traits tell what embeddings smooth away: noise, offsets, resolution, a wire that is dead."""

import numpy as np
import pytest
import torch
from torch import Tensor

from smvae_core.modality import Modality, vision_touch_modalities
from smvae_core.model.traits import trait_count, traits_of, traits_of_one

MODALITIES = {modality.name: modality for modality in vision_touch_modalities()}


def smooth(name: str, rows: int = 6) -> Tensor:
    """Return samples in which neighbours are alike."""
    shape = MODALITIES[name].shape
    ramp = torch.linspace(0.2, 0.7, int(np.prod(shape))).reshape(1, *shape)
    return ramp + 0.01 * torch.arange(rows).reshape(-1, *[1] * len(shape))


@pytest.mark.parametrize("name", ["rgb", "depth", "force"])
def test_noise_changes_the_roughness_much_and_the_means_little(name: str) -> None:
    healthy = smooth(name)
    noisy = healthy + 0.05 * torch.randn(healthy.shape, generator=torch.Generator().manual_seed(0))
    change = (traits_of_one(MODALITIES[name], noisy) - traits_of_one(MODALITIES[name], healthy)).abs().mean(dim=0)
    means, logarithms = change[: len(change) // 4], change[-len(change) // 5 :]
    assert means.max() < 0.05 and logarithms.min() > 1.0


def test_an_offset_of_a_picture_changes_every_mean_by_it_and_no_roughness() -> None:
    healthy = smooth("depth")
    change = traits_of_one(MODALITIES["depth"], healthy + 0.02) - traits_of_one(MODALITIES["depth"], healthy)
    torch.testing.assert_close(change[:, :16], torch.full((6, 16), 0.02), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(change[:, 16:], torch.zeros(6, 16), atol=1e-3, rtol=0.0)


def test_traits_of_a_set_stand_in_the_columns_of_the_model_whatever_is_absent() -> None:
    modalities: list[Modality] = list(MODALITIES.values())
    batch = {name: smooth(name) for name in MODALITIES}
    every = traits_of(modalities, batch, 6)
    assert every.shape == (6, 4, trait_count(modalities)) and torch.isfinite(every).all()
    without = traits_of(modalities, {name: x for name, x in batch.items() if name != "rgb"}, 6)
    column = list(MODALITIES).index("rgb")
    assert not without[:, column].any()
    others = [n for n in range(4) if n != column]
    assert torch.equal(every[:, others], without[:, others])
    torch.testing.assert_close(traits_of(modalities, {name: x[2:3] for name, x in batch.items()}, 1)[0], every[2])

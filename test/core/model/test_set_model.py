"""What the latent of a set does and does not depend on."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from smvae_core.model.networks import SIZES
from smvae_core.model.vae import Batch, BatchError, ModelConfiguration, MultimodalVAE
from smvae_core.subsets import all_subsets, subset_mask
from smvae_core.systems.smvae import SetAttention

CLOSE = dict(rtol=0, atol=1e-5)


def posterior_of(model: MultimodalVAE, batch: Batch, *subset: str):
    mask = subset_mask(model.names, [subset]).expand(len(batch["rgb"]), -1)
    return model.posterior(batch, mask)


@torch.no_grad()
@pytest.mark.parametrize("subset", all_subsets(["rgb", "depth", "force", "action"]), ids="+".join)
def test_a_masked_modality_is_the_same_as_a_dropped_one(model, batch, subset):
    masked = posterior_of(model, batch, *subset)
    dropped = model.posterior({name: batch[name] for name in subset}, subset_mask(model.names, [subset]).expand(6, -1))
    torch.testing.assert_close(masked.mean, dropped.mean, **CLOSE)
    torch.testing.assert_close(masked.log_variance, dropped.log_variance, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e9])
def test_what_stands_in_absent_slots_has_no_influence(model, batch, junk):
    clean = posterior_of(model, batch, "depth", "action")
    dirty = posterior_of(model, batch | {"rgb": torch.full_like(batch["rgb"], junk)}, "depth", "action")
    torch.testing.assert_close(clean.mean, dirty.mean, rtol=0, atol=0)


@torch.no_grad()
def test_each_sample_may_hold_another_set_and_the_rest_of_the_batch_does_not_matter(model, batch):
    mask = subset_mask(model.names, [("rgb",), (), ("force", "action"), model.names, ("depth",), ("rgb", "force")])
    together = model.posterior(batch, mask)
    for row in range(6):
        alone = model.posterior({name: x[row : row + 1] for name, x in batch.items()}, mask[row : row + 1])
        torch.testing.assert_close(together.mean[row], alone.mean[0], **CLOSE)
        torch.testing.assert_close(together.log_variance[row], alone.log_variance[0], **CLOSE)


@torch.no_grad()
def test_the_empty_set_gives_the_prior(model, batch):
    posterior = model.posterior({}, torch.zeros(3, 4, dtype=torch.bool))
    assert torch.equal(posterior.mean, torch.zeros(3, 64))
    assert torch.equal(posterior.log_variance, torch.zeros(3, 64))
    assert torch.equal(posterior.kl_to_prior(), torch.zeros(3))


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(range(5)), mask=st.lists(st.booleans(), min_size=5, max_size=5), seed=st.integers(0, 99))
def test_the_order_of_the_modalities_does_not_matter(order, mask, seed):
    torch.manual_seed(seed)
    fusion, embeddings = SetAttention(embedding=16, latent=8, heads=4), torch.randn(2, 5, 16)
    mask = torch.tensor([mask, mask])
    with torch.no_grad():
        straight, permuted = fusion(embeddings, mask), fusion(embeddings[:, order], mask[:, order])
    torch.testing.assert_close(straight.mean, permuted.mean, **CLOSE)
    torch.testing.assert_close(straight.attention[:, order], permuted.attention, **CLOSE)


@torch.no_grad()
def test_attention_is_shared_among_the_present_and_sums_to_one(model, batch):
    attention = posterior_of(model, batch, "rgb", "force").attention
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(6))
    assert (attention[:, [1, 3]] == 0).all() and (attention[:, [0, 2]] > 0).all()


@torch.no_grad()
def test_a_modality_that_joins_changes_the_posterior(model, batch):
    for name in model.names:
        rest = [other for other in model.names if other != name]
        changed = (posterior_of(model, batch, *rest).mean - posterior_of(model, batch, *model.names).mean).abs().max()
        assert changed > 1e-3, name


def test_every_force_sample_reaches_the_embedding(model, batch):
    force = batch["force"].clone().requires_grad_()
    model.embeddings["force"](force).square().sum().backward()
    assert (force.grad.abs().sum(dim=(0, 1)) > 0).all()
    with torch.no_grad():
        reference = model.embeddings["force"](batch["force"])
        for sample in range(32):
            moved = batch["force"].clone()
            moved[:, :, sample] += 0.5
            assert (model.embeddings["force"](moved) - reference).abs().max() > 1e-4, sample


@pytest.mark.parametrize("size", SIZES)
def test_every_size_has_the_shapes_of_the_paper(size, batch):
    model = MultimodalVAE(ModelConfiguration(size=size))
    with torch.no_grad():
        posterior = model.posterior(batch, torch.ones(6, 4, dtype=torch.bool))
        decoded = model.decode(posterior.sample())
    assert posterior.mean.shape == posterior.log_variance.shape == (6, 64)
    assert {name: x.shape for name, x in decoded.items()} == {name: x.shape for name, x in batch.items()}


def test_the_paper_size_has_the_widths_of_tables_8_and_9():
    model = MultimodalVAE(ModelConfiguration())
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes["embeddings.rgb.0.weight"] == (32, 3, 4, 4)
    assert shapes["embeddings.depth.8.weight"] == (256, 128, 4, 4)
    assert shapes["embeddings.rgb.12.weight"] == (512, 256 * 5 * 5)
    assert shapes["embeddings.force.9.weight"] == (512, 128 * 2)
    assert shapes["embeddings.action.0.weight"] == (512, 4)
    assert shapes["decoders.rgb.0.weight"] == (256 * 5 * 5, 64)
    assert shapes["decoders.force.0.weight"] == (128 * 2, 64)
    assert shapes["fusion.query"] == (512,)
    assert shapes["fusion.mean.weight"] == (64, 512)


def test_absent_rows_do_not_enter_the_batch_statistics(model, batch):
    def statistics(present_rows: Batch, mask: torch.Tensor) -> torch.Tensor:
        model.load_state_dict(initial)
        model.train()
        model.embed(present_rows, mask)
        return model.embeddings["rgb"][3].running_mean.clone()

    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    some = torch.zeros(6, 4, dtype=torch.bool)
    some[:3, 0] = True
    with_absent = statistics({"rgb": torch.cat([batch["rgb"][:3], torch.full((3, 3, 64, 64), 1e3)])}, some)
    alone = statistics({"rgb": batch["rgb"][:3]}, some[:3])
    torch.testing.assert_close(with_absent, alone)


@pytest.mark.parametrize(
    "broken, sentence",
    [
        (lambda b: b | {"rgb": b["rgb"][:, :1]}, r"rgb expected shape \(6, 3, 64, 64\), found \(6, 1, 64, 64\)"),
        (lambda b: b | {"sonar": b["action"]}, r"found \['sonar'\]"),
        (lambda b: {n: x for n, x in b.items() if n != "force"}, "force is present by the mask"),
        (
            lambda b: b | {"rgb": (255 * b["rgb"]).byte()},
            "rgb expected torch.float32 in model units, found torch.uint8",
        ),
        (lambda b: b | {"force": b["force"].double()}, "force expected torch.float32 .*, found torch.float64"),
        (lambda b: b | {"action": b["action"].numpy()}, "action expected torch.float32 .*, found a numpy.ndarray"),
        (lambda b: b | {"rgb": b["rgb"].to("meta")}, "rgb expected on cpu as the model, found on meta"),
    ],
)
def test_a_batch_that_does_not_fit_is_told_in_words(model, batch, broken, sentence):
    with pytest.raises(BatchError, match=sentence):
        model.posterior(broken(batch), torch.ones(6, 4, dtype=torch.bool))


@pytest.mark.parametrize(
    "mask, found",
    [
        (torch.ones(6, 3, dtype=torch.bool), r"torch.bool \(6, 3\)"),
        (torch.ones(6, 4), r"torch.float32 \(6, 4\)"),
        (np.ones((6, 4), bool), r"a numpy.ndarray \(6, 4\)"),
    ],
)
def test_a_mask_that_does_not_fit_is_told_in_words(model, batch, mask, found):
    with pytest.raises(BatchError, match=rf"mask: expected torch.bool \(B, 4\), found {found}"):
        model.posterior(batch, mask)


@pytest.mark.parametrize(
    "z, names, sentence",
    [
        (torch.zeros(2, 7), None, r"z: expected torch.float32 \(B, 64\), found torch.float32 \(2, 7\)"),
        (torch.zeros(64), None, r"found torch.float32 \(64,\)"),
        (torch.zeros(2, 64, dtype=torch.float64), ["rgb"], r"found torch.float64 \(2, 64\)"),
        (torch.zeros(2, 64), ["rgb", "sonar"], r"expected modalities among \['rgb', .*, found \['sonar'\]"),
    ],
)
def test_a_latent_that_does_not_fit_is_told_in_words(model, z, names, sentence):
    with pytest.raises(BatchError, match=sentence):
        model.predict(z, names)


@pytest.mark.parametrize("name", ["values", "type", "training"])
def test_a_name_that_torch_keeps_for_itself_is_told_in_words(name):
    rgb = ModelConfiguration().modalities[0].model_copy(update={"name": name})
    with pytest.raises(ValidationError, match=rf"do not have as attributes, found \['{name}'\]"):
        ModelConfiguration(modalities=(rgb,))

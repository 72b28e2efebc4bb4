"""The contract that every system keeps: any subset in, in any order, one latent out."""

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smvae_core import checkpoint
from smvae_core.checkpoint import TrainingRecord
from smvae_core.configuration import Configuration
from smvae_core.evaluation.likelihoods import log_marginal
from smvae_core.inference.engine import Engine
from smvae_core.inference.onnx_export import export_onnx
from smvae_core.model.networks import SIZES
from smvae_core.model.vae import Batch, ModelConfiguration, MultimodalVAE
from smvae_core.subsets import all_subsets, subset_mask
from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.registry import SYSTEMS, find_system, objective_settings
from smvae_core.training.objective import Objective

CLOSE = dict(rtol=0, atol=1e-5)
NAMES = ("rgb", "depth", "force", "action")


@pytest.fixture(params=SYSTEMS)
def model(request) -> MultimodalVAE:
    torch.manual_seed(0)
    return MultimodalVAE(ModelConfiguration(system=request.param, size="tiny", latent=8)).eval()


def assert_same(found, expected, **tolerance) -> None:
    for x, y in zip(found, expected):
        torch.testing.assert_close(x, y, **(tolerance or CLOSE))


def mask_of(*subset: str, rows: int = 6) -> torch.Tensor:
    return subset_mask(NAMES, [subset]).expand(rows, -1)


@torch.no_grad()
def test_a_masked_modality_is_the_same_as_a_dropped_one(model, batch):
    for subset in all_subsets(NAMES):
        dropped = model.posterior({name: batch[name] for name in subset}, mask_of(*subset))
        masked = model.posterior(
            {name: x if name in subset else torch.full_like(x, float("nan")) for name, x in batch.items()},
            mask_of(*subset),
        )
        assert_same(masked, dropped)
        z = torch.randn(2, 6, 8)
        torch.testing.assert_close(masked.log_prob(z), dropped.log_prob(z), **CLOSE)


def test_double_precision_stays_double_and_gives_the_same(model, batch):
    mask = subset_mask(NAMES, [("rgb",), (), ("force", "action"), NAMES, ("depth",), ("rgb", "force")])
    configuration = ObjectiveConfiguration()
    draws = drawn(model, mask, configuration)

    def found(batch: Batch) -> list[torch.Tensor]:
        posterior = model.posterior(batch, mask)
        loss = Objective(model, configuration)(batch, draws, 1.0).loss
        likelihood = log_marginal(model, batch, ["rgb", "force"], samples=3).value
        return [*posterior, *model.predict(posterior.mean).values(), loss, likelihood]

    single = found(batch)
    model.double()
    double = found({name: x.double() for name, x in batch.items()})
    assert {x.dtype for x in double} == {torch.float64}
    # The likelihood is drawn with other noise.
    assert_same((x.float() for x in double[:-1]), single[:-1], rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_several_masks_of_the_same_embeddings_are_as_each_alone(model, batch):
    embeddings = model.embed(batch, mask_of(*NAMES))
    masks = torch.rand(3, 6, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    masks[0, 0], masks[1, 1] = True, False
    together = model.fusion(embeddings, masks)
    for k, mask in enumerate(masks):
        assert_same([x[k] for x in together], model.fusion(embeddings, mask))


@torch.no_grad()
def test_each_sample_may_hold_another_set_and_the_rest_of_the_batch_does_not_matter(model, batch):
    mask = subset_mask(NAMES, [("rgb",), (), ("force", "action"), NAMES, ("depth",), ("rgb", "force")])
    together = model.posterior(batch, mask)
    for row in range(6):
        alone = model.posterior({name: x[row : row + 1] for name, x in batch.items()}, mask[row : row + 1])
        assert_same((x[row] for x in together), (x[0] for x in alone))


@torch.no_grad()
def test_the_empty_set_gives_the_prior(model):
    posterior = model.posterior({}, torch.zeros(3, 4, dtype=torch.bool))
    z, choice = torch.randn(5, 3, 8), torch.rand(5, 3)
    assert_same(posterior, (torch.zeros(3, 8), torch.zeros(3, 8), torch.zeros(3, 4)))
    torch.testing.assert_close(posterior.kl_to_prior(), torch.zeros(3))
    torch.testing.assert_close(posterior.sample(z, choice), z)
    torch.testing.assert_close(posterior.log_prob(z), torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(dim=-1))


@settings(max_examples=60, deadline=None)
@given(
    system=st.sampled_from(SYSTEMS),
    order=st.permutations(range(5)),
    mask=st.lists(st.booleans(), min_size=5, max_size=5),
    junk=st.floats(-1e3, 1e3),
    seed=st.integers(0, 99),
)
def test_neither_the_order_nor_what_stands_in_absent_slots_matters(system, order, mask, junk, seed):
    torch.manual_seed(seed)
    names = [f"m{i}" for i in range(5)]
    network, sizes = find_system(system).network, SIZES["tiny"]
    fusion = network(names, sizes.embedding, 4, sizes.heads, False)
    permuted = network([names[i] for i in order], sizes.embedding, 4, sizes.heads, False)
    permuted.load_state_dict(fusion.state_dict())
    embeddings, mask = torch.randn(2, 5, 32), torch.tensor([mask, mask])
    dirty = torch.where(mask[:, :, None], embeddings, junk)
    with torch.no_grad():
        straight, other = fusion(embeddings, mask), permuted(dirty[:, order], mask[:, order])
    assert_same(other[:2], straight[:2])
    torch.testing.assert_close(straight.attention[:, order], other.attention, **CLOSE)


@torch.no_grad()
def test_attention_is_shared_among_the_present_and_sums_to_one(model, batch):
    for subset in all_subsets(NAMES):
        attention = model.posterior(batch, mask_of(*subset)).attention
        torch.testing.assert_close(attention.sum(dim=1), torch.ones(6))
        assert torch.equal(attention > 0, mask_of(*subset))


@torch.no_grad()
def test_a_modality_that_joins_changes_the_posterior(model, batch):
    for name in NAMES:
        rest = [other for other in NAMES if other != name]
        changed = model.posterior(batch, mask_of(*rest)).mean - model.posterior(batch, mask_of(*NAMES)).mean
        assert changed.abs().max() > 1e-4, name


@torch.no_grad()
def test_jmvae_takes_its_joint_encoder_for_the_whole_set_and_the_unimodal_ones_for_parts(batch):
    model = MultimodalVAE(ModelConfiguration(system="jmvae", size="tiny", latent=8)).eval()
    embeddings = model.embed(batch, mask_of(*NAMES))
    joint, experts = model.fusion.joint(embeddings, mask_of(*NAMES)), model.fusion.experts(embeddings)
    assert_same(model.posterior(batch, mask_of(*NAMES))[:2], joint[:2])
    force = (experts.mean[:, 2], experts.log_variance[:, 2])
    assert_same(model.posterior(batch, mask_of("force"))[:2], force)
    part = mask_of("rgb", "action")
    assert_same(model.posterior(batch, part), experts.product(part))


def drawn(model: MultimodalVAE, available: torch.Tensor, config: ObjectiveConfiguration, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    settings = objective_settings(model.configuration.system, config)
    return model.system.draw(settings, available, model.configuration.latent, model.names, generator)


def test_training_lowers_the_loss_and_reaches_every_weight(model, batch):
    available = torch.rand(6, 4, generator=torch.Generator().manual_seed(2)) < 0.7
    available[0], available[1] = False, True
    config = ObjectiveConfiguration()
    objective = Objective(model.train(), config)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for step in range(40):
        bound = objective(batch, drawn(model, available, config, seed=step % 4), 1.0)
        optimizer.zero_grad()
        bound.loss.backward()
        optimizer.step()
        losses.append(bound.loss.item())
    assert sum(losses[-4:]) < sum(losses[:4]) - 100
    # Processes that train together wait for the gradient of each.
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_parts_of_a_batch_together_have_the_loss_of_the_whole(model, batch):
    """Several processes then train as one does. In evaluation mode, since batch statistics differ between parts."""
    available = torch.rand(6, 4, generator=torch.Generator().manual_seed(2)) < 0.7
    config = ObjectiveConfiguration()
    objective, draws = Objective(model, config), drawn(model, available, config)
    whole = objective(batch, draws, 0.5)
    losses = []
    for rows in (slice(0, 3), slice(3, 6)):
        part = objective({name: x[rows] for name, x in batch.items()}, draws.part(rows), 0.5)
        torch.testing.assert_close(part.rows, whole.rows[:, rows])
        losses.append(part.loss)
    torch.testing.assert_close(torch.stack(losses).mean(), whole.loss)


def test_nothing_unavailable_enters_the_bound(model, batch):
    available = mask_of("depth", "action").clone()
    available[0] = False
    config = ObjectiveConfiguration()
    objective, draws = Objective(model, config), drawn(model, available, config)
    clean = objective(batch, draws, 1.0)
    nan = {name: torch.full_like(batch[name], float("nan")) for name in ("rgb", "force")}
    dirty = objective(batch | nan, draws, 1.0)
    dirty.loss.backward()
    torch.testing.assert_close(dirty.loss, clean.loss)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert not (draws.subsets & ~available).any() and not (draws.targets & ~available).any()


@pytest.fixture
def saved(tmp_path, model):
    record = TrainingRecord(data="none", commands=(), configuration=Configuration(), epochs=0, samples=0, held_out=())
    checkpoint.save(tmp_path / "model.safetensors", model, {}, record, None)
    return tmp_path / "model.safetensors"


@torch.no_grad()
def test_a_checkpoint_gives_the_model_back(saved, model, batch):
    loaded = checkpoint.load(saved).model
    assert loaded.configuration == model.configuration
    for subset in all_subsets(NAMES):
        assert_same(loaded.posterior(batch, mask_of(*subset)), model.posterior(batch, mask_of(*subset)), rtol=0, atol=0)


def test_the_engines_back_ends_agree_and_the_whole_model_is_exported(saved, model, batch: Batch, tmp_path):
    arrays = {name: x[0].numpy() for name, x in batch.items()}
    subsets = [*all_subsets(NAMES), ()]
    eager, onnx = (Engine.load(saved, "cpu", name).infer_subsets(arrays, subsets, NAMES) for name in ("eager", "onnx"))
    for a, b in zip(eager, onnx):
        for x, y in ((a.mean, b.mean), (a.log_variance, b.log_variance), (a.predictions["rgb"], b.predictions["rgb"])):
            np.testing.assert_allclose(x, y, atol=1e-4)
        assert a.attention == pytest.approx(b.attention, abs=1e-4)
    exported = export_onnx(checkpoint.load(saved), tmp_path / "model.onnx")
    assert exported.subsets == 16 and exported.difference <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    masks = subset_mask(NAMES, [("rgb",), (), ("force", "action"), NAMES, ("depth",), ("rgb", "force")])
    found = session.run(["mean"], {name: x.numpy() for name, x in batch.items()} | {"mask": masks.numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(found, model.posterior(batch, masks).mean, atol=1e-4)

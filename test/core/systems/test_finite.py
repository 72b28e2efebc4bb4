"""Whatever a sensor delivers, every system gives finite numbers; the bounds for that do not bind on healthy data."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from smvae_core import checkpoint
from smvae_core.checkpoint import Checkpoint, Metadata
from smvae_core.configuration import DataConfiguration
from smvae_core.data.logs import read_logs
from smvae_core.inference.engine import Engine, Fusion
from smvae_core.model.vae import ModelConfiguration, MultimodalVAE
from smvae_core.simulation.simulate import simulate
from smvae_core.subsets import all_subsets, subset_mask
from smvae_core.systems.posterior import EMBEDDING, LOG_VARIANCE
from smvae_core.systems.registry import SYSTEMS

NAMES = ("rgb", "depth", "force", "action")
EXTREMES = [1e3, -1e3, 1e6, -1e6, 1e20, -1e20, float(np.finfo(np.float32).max), np.inf, -np.inf, np.nan]


def engine(system: str, backend: str = "eager") -> Engine:
    torch.manual_seed(0)
    model = MultimodalVAE(ModelConfiguration(system=system, size="tiny", latent=8)).eval()
    metadata = Metadata(format=1, package_version="0", model=model.configuration)
    return Engine(Checkpoint(model, {}, metadata), "cpu", backend)


ENGINES = {system: engine(system) for system in SYSTEMS}


def assert_finite(fusion: Fusion) -> None:
    arrays = [fusion.mean, fusion.log_variance, np.array(list(fusion.attention.values())), *fusion.predictions.values()]
    assert all(np.isfinite(array).all() for array in arrays)


def healthy(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {m.name: rng.random(m.shape, np.float32) for m in ENGINES["smvae"].modalities}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", EXTREMES, ids=str)
def test_an_extreme_value_in_any_modality_gives_finite_numbers(system, name, value):
    rng = np.random.default_rng(0)
    for array in (np.full_like(healthy(rng)[name], value), healthy(rng)[name]):
        array.flat[0] = value
        for fusion in ENGINES[system].infer_subsets(healthy(rng) | {name: array}, [(name,), NAMES], NAMES):
            assert_finite(fusion)


@settings(max_examples=100, deadline=None)
@given(
    system=st.sampled_from(SYSTEMS),
    subset=st.sets(st.sampled_from(NAMES)),
    spoilt=st.dictionaries(st.sampled_from(NAMES), st.floats(width=32), min_size=1),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 99),
)
def test_any_mix_of_spoilt_modalities_gives_finite_numbers(system, subset, spoilt, share, seed):
    rng = np.random.default_rng(seed)
    arrays = healthy(rng)
    for name, value in spoilt.items():
        arrays[name][rng.random(arrays[name].shape) < share] = value
    assert_finite(ENGINES[system].infer_subsets(arrays, [tuple(subset)], NAMES)[0])


@torch.no_grad()
@pytest.mark.parametrize("system", SYSTEMS)
def test_nan_in_absent_slots_has_no_influence(system):
    torch.manual_seed(0)
    model = MultimodalVAE(ModelConfiguration(system=system, size="tiny", latent=8)).eval()
    batch = {name: torch.rand(1, *m.shape) for name, m in model.modalities.items()}
    for subset in [*all_subsets(NAMES), ()]:
        mask = subset_mask(NAMES, [subset])
        spoilt = {name: x if name in subset else torch.full_like(x, torch.nan) for name, x in batch.items()}
        clean, dirty = model.posterior(batch, mask), model.posterior(spoilt, mask)
        assert all(torch.equal(a, b) for a, b in zip(clean, dirty))


@pytest.mark.parametrize("system", ["smvae", "mopoe"])
def test_onnx_runtime_gives_finite_numbers_too(system):
    onnx = engine(system, "onnx")
    for value in (1e6, np.inf, np.nan):
        arrays = {name: np.full_like(x, value) for name, x in healthy(np.random.default_rng(0)).items()}
        assert_finite(onnx.infer(arrays, NAMES))


@torch.no_grad()
@pytest.mark.rendering
def test_the_bounds_do_not_bind_on_healthy_data(tmp_path):
    """The shipped model on every subset of a log that no training had."""
    simulate(tmp_path, trajectories=1, steps=80, seed=11)
    loaded = checkpoint.load(checkpoint.default_checkpoint())
    modalities = tuple(loaded.model.modalities.values())
    samples, _ = read_logs(tmp_path, modalities, DataConfiguration(), None, False, Console(quiet=True))
    batch, available = samples.batch(np.flatnonzero(samples.available.all(axis=1)))
    for subset in all_subsets(loaded.model.names):
        mask = subset_mask(loaded.model.names, [subset]).expand(len(available), -1)
        assert loaded.model.embed(batch, mask).abs().max() < 0.5 * EMBEDDING
        log_variance = loaded.model.posterior(batch, mask).log_variance
        assert LOG_VARIANCE[0] < log_variance.min() and log_variance.max() < LOG_VARIANCE[1]

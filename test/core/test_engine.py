"""One set in, latent and predictions out."""

import numpy as np
import pytest
import torch

from smvae_core import checkpoint
from smvae_core.checkpoint import TrainingRecord
from smvae_core.configuration import Configuration
from smvae_core.engine import Engine, EngineError, torch_device
from smvae_core.evaluation import all_subsets, subset_mask


@pytest.fixture
def engine(tmp_path, model):
    record = TrainingRecord(data="none", commands=(), configuration=Configuration(), epochs=0, samples=0, held_out=())
    checkpoint.save(tmp_path / "model.safetensors", model, {}, record, None)
    engine = Engine.load(tmp_path / "model.safetensors", "cpu")
    engine.warm_up()
    return engine


def arrays_of(batch, *names):
    return {name: batch[name][0].numpy() for name in names}


@pytest.mark.parametrize("subset", all_subsets(["rgb", "depth", "force", "action"]), ids="+".join)
def test_the_engine_agrees_with_the_model(engine, model, batch, subset):
    fusion = engine.infer(arrays_of(batch, *subset), predict=model.names)
    with torch.no_grad():
        posterior = model.posterior(batch, subset_mask(model.names, [subset]).expand(6, -1))
        predictions = model.predict(posterior.mean)
    np.testing.assert_allclose(fusion.mean, posterior.mean[0], atol=1e-5)
    np.testing.assert_allclose(fusion.log_variance, posterior.log_variance[0], atol=1e-5)
    assert set(fusion.modalities) == set(subset) == set(fusion.attention)
    assert sum(fusion.attention.values()) == pytest.approx(1.0)
    for name, prediction in fusion.predictions.items():
        np.testing.assert_allclose(prediction, predictions[name][0], atol=1e-5)


def test_the_empty_set_gives_the_prior(engine):
    fusion = engine.infer({}, predict=["rgb"])
    assert not fusion.mean.any() and not fusion.log_variance.any() and fusion.attention == {}
    assert fusion.predictions["rgb"].shape == (3, 64, 64)


def test_subsets_at_once_are_the_subsets_one_by_one(engine, batch):
    arrays = arrays_of(batch, "rgb", "depth", "force", "action")
    subsets = all_subsets(list(arrays))
    for subset, together in zip(subsets, engine.infer_subsets(arrays, subsets, ["depth"])):
        alone = engine.infer({name: arrays[name] for name in subset}, ["depth"])
        assert together.modalities == alone.modalities
        np.testing.assert_allclose(together.mean, alone.mean, atol=1e-5)
        np.testing.assert_allclose(together.predictions["depth"], alone.predictions["depth"], atol=1e-5)


def test_only_what_is_asked_for_is_predicted(engine, batch):
    assert engine.infer(arrays_of(batch, "rgb")).predictions == {}
    assert list(engine.infer(arrays_of(batch, "rgb"), ["force"]).predictions) == ["force"]


@pytest.mark.parametrize(
    "arrays, sentence",
    [
        ({"sonar": np.zeros(3)}, "found 'sonar'"),
        ({"rgb": np.zeros((64, 64, 3))}, r"rgb: expected shape \(3, 64, 64\), found \(64, 64, 3\)"),
    ],
)
def test_arrays_that_do_not_fit_are_told_in_words(engine, arrays, sentence):
    with pytest.raises(EngineError, match=sentence):
        engine.infer(arrays)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, so it is never missing")
def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(EngineError, match="'cuda' was asked for"):
        torch_device("cuda")

"""One set in, latent and predictions out."""

import logging
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from smvae_core.device import DeviceLostError, EngineError, torch_device
from smvae_core.inference.backend import BackendError, TorchBackend
from smvae_core.inference.engine import Engine
from smvae_core.inference.onnx_runtime import OnnxBackend
from smvae_core.subsets import all_subsets, subset_mask


@pytest.fixture(scope="module", params=["auto", "eager", "channels_last", "onnx"])
def engine(request, shared_path):
    """An engine for tests that only ask it."""
    engine = Engine.load(shared_path, "cpu", request.param)
    engine.warm_up()
    return engine


@pytest.fixture
def inaccurate_onnx(monkeypatch):
    """ONNX Runtime, a little off."""
    run = OnnxBackend.run
    monkeypatch.setattr(OnnxBackend, "run", lambda *given: (found := run(*given))._replace(mean=found.mean + 2e-4))


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
        (
            {"rgb": np.zeros((3, 64, 64), np.uint8)},
            r"rgb: expected .* float32 in model units, found uint8; to_model\(\)",
        ),
        ({"action": torch.zeros(4)}, "action: expected a NumPy array, .* found torch.float32"),
        ({"action": [0.0, 0.0, 0.0, 0.0]}, "action: expected a NumPy array, .* found list"),
    ],
)
def test_arrays_that_do_not_fit_are_told_in_words(engine, arrays, sentence):
    with pytest.raises(EngineError, match=sentence):
        engine.infer(arrays)


def test_a_prediction_of_an_unknown_modality_is_told_in_words(engine):
    with pytest.raises(EngineError, match="found 'sonar'"):
        engine.infer({}, ["sonar"])


@pytest.mark.parametrize("backend", ["eager", "channels_last", "onnx"])
def test_a_fixed_back_end_is_the_one_that_runs_and_gives_the_same_bytes_again(path, batch, backend):
    arrays = arrays_of(batch, "rgb", "force")
    fusions = []
    for _ in range(2):
        engine = Engine.load(path, "cpu", backend)
        engine.warm_up()
        assert engine.backend == backend and engine.timings == {}
        fusions.append(engine.infer(arrays, ["depth"]))
    assert fusions[0].mean.tobytes() == fusions[1].mean.tobytes()
    assert fusions[0].predictions["depth"].tobytes() == fusions[1].predictions["depth"].tobytes()


def test_warming_up_takes_the_fastest_back_end_and_says_which(path, caplog):
    import onnxruntime  # noqa: F401  (skipped without it)

    engine = Engine.load(path, "cpu")
    assert engine.backend == "eager" and engine.timings == {}
    with caplog.at_level(logging.INFO, logger="smvae_core.inference.engine"):
        engine.warm_up()
    assert set(engine.timings) == {"eager", "channels_last", "onnx"}
    assert engine.timings[engine.backend] == min(engine.timings.values())
    assert f"runs with {engine.backend}" in caplog.text


def test_back_ends_can_be_compared_while_sets_are_fused(path, batch):
    import onnxruntime  # noqa: F401  (skipped without it)

    engine, arrays = Engine.load(path, "cpu"), arrays_of(batch, "rgb", "force")
    assert engine.may_compare_later
    engine.warm_up(compare=False)
    before = engine.infer(arrays, ["depth"])
    with ThreadPoolExecutor(1) as pool:
        comparison = pool.submit(engine.compare)
        while not comparison.done():
            during = engine.infer(arrays, ["depth"])
            assert during.mean.tobytes() == before.mean.tobytes()
            assert during.predictions["depth"].tobytes() == before.predictions["depth"].tobytes()
    assert engine.backend == "eager" and engine.timings == {}
    comparison.result()()
    assert set(engine.timings) == {"eager", "channels_last", "onnx"} and not engine.may_compare_later
    assert np.allclose(engine.infer(arrays).mean, before.mean, atol=1e-4)


def test_a_comparison_that_is_stopped_builds_no_more_back_ends(path):
    engine = Engine.load(path, "cpu")
    engine.compare(stop=lambda: True)()
    assert set(engine.timings) == {"eager"}


def test_a_back_end_that_does_not_agree_with_eager_is_not_taken(path, inaccurate_onnx, caplog):
    import onnxruntime  # noqa: F401  (skipped without it)

    engine = Engine.load(path, "cpu")
    engine.warm_up()
    assert set(engine.timings) == {"eager", "channels_last"}
    assert "expected 'onnx' to agree with eager to 0.0001, found 0.0002" in caplog.text
    with pytest.raises(BackendError, match="agree with eager"):
        Engine.load(path, "cpu", "onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_packages_the_engine_runs_and_names_them_to_who_asks(path, monkeypatch, caplog, package):
    import onnxruntime  # noqa: F401  (skipped without it)

    monkeypatch.setitem(sys.modules, package, None)
    engine = Engine.load(path, "cpu")
    engine.warm_up()
    assert set(engine.timings) == {"eager", "channels_last"} and not caplog.records
    with pytest.raises(BackendError, match=rf"'{package}' is not installed: pip install 'smvae_ros\[onnx\]'"):
        Engine.load(path, "cpu", "onnx")


@pytest.mark.parametrize("backend", ["eager", "channels_last", "onnx"])
def test_a_released_engine_runs_again_once_it_is_warm(path, batch, backend):
    engine = Engine.load(path, "cpu", backend)
    before = engine.infer(arrays_of(batch, "rgb"), ["force"])
    engine.release()
    with pytest.raises(EngineError, match="released"):
        engine.infer(arrays_of(batch, "rgb"))
    engine.warm_up()
    after = engine.infer(arrays_of(batch, "rgb"), ["force"])
    assert engine.backend == backend
    assert after.mean.tobytes() == before.mean.tobytes()
    assert after.predictions["force"].tobytes() == before.predictions["force"].tobytes()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU, whose memory could be freed")
def test_a_released_engine_leaves_the_gpu_as_it_found_it(path):
    before = torch.cuda.memory_allocated()
    engine = Engine.load(path, "cuda")
    engine.warm_up()
    assert torch.cuda.memory_allocated() > before
    engine.release()
    assert torch.cuda.memory_allocated() == before


def test_a_lost_gpu_is_told_and_is_no_obstacle_to_the_end(path, batch, monkeypatch):
    engine = Engine.load(path, "cpu", "eager")
    engine.device = torch.device("cuda")  # what follows happens on a GPU only

    def lost(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(TorchBackend, "run", lost)
    monkeypatch.setattr("smvae_core.device._probe", lost)
    monkeypatch.setattr(torch.cuda, "empty_cache", lost)
    monkeypatch.setattr(torch.nn.Module, "cpu", lost)
    with pytest.raises(DeviceLostError, match="the GPU stopped working .*illegal memory access") as raised:
        engine.infer(arrays_of(batch, "rgb"))
    assert "\n" not in str(raised.value)
    engine.release()
    with pytest.raises(EngineError, match="released"):
        engine.infer(arrays_of(batch, "rgb"))


def test_a_gpu_out_of_memory_is_told_when_the_model_is_loaded(path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(TorchBackend, "__init__", full)
    with pytest.raises(EngineError, match="cpu: out of memory .*2.00 GiB"):
        Engine.load(path, "cpu", "eager")


def test_a_device_or_a_back_end_that_nobody_knows_is_named(path):
    with pytest.raises(EngineError, match="device: expected auto, cpu, cuda or cuda:N, found 'gpu'"):
        Engine.load(path, "gpu")
    with pytest.raises(BackendError, match="backend: expected 'auto' or one of eager, .*, found 'fastest'"):
        Engine.load(path, "cpu", "fastest")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, so it is never missing")
def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(EngineError, match="'cuda' was asked for"):
        torch_device("cuda")

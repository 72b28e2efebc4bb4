"""Memory in the engine: state in, state out, on every back end."""

import numpy as np
import onnxruntime
import pytest
import torch

from smvae_core import checkpoint
from smvae_core.device import EngineError
from smvae_core.inference import cuda_graph
from smvae_core.inference.engine import Engine
from smvae_core.inference.onnx_export import export_onnx
from smvae_core.model.memory import MemoryConfiguration
from smvae_core.model.vae import Batch, ModelConfiguration, MultimodalVAE
from smvae_core.subsets import all_subsets

from .test_cuda_graph import Rerun

NAMES = ("rgb", "depth", "force", "action")
HORIZON = 2.0
SETS = (("rgb", "depth", "force", "action"), ("force",), (), ("depth", "action"), ())
ELAPSED = (0.0, 0.05, 0.4, 0.1, 1.5)


def saved(path, system="smvae", seed=0):
    torch.manual_seed(seed)
    memory = MemoryConfiguration(size=8, horizon=HORIZON)
    model = MultimodalVAE(ModelConfiguration(size="tiny", latent=4, system=system, memory=memory)).eval()
    checkpoint.save(path, model, {}, None, None)
    return model


@pytest.fixture
def remembering(tmp_path):
    return saved(tmp_path / "memory.safetensors")


def arrays_of(batch: Batch, row, names=NAMES):
    return {name: batch[name][row].numpy() for name in names}


def run(engine, batch, sets=SETS):
    """Fuse sets one after the other, everything predicted."""
    fusions, state = [], None
    for row, (names, elapsed) in enumerate(zip(sets, ELAPSED)):
        fusions.append(engine.infer(arrays_of(batch, row, names), NAMES, state, elapsed))
        state = fusions[-1].state
    return fusions


@pytest.mark.parametrize("backend", ["eager", "channels_last", "onnx"])
@pytest.mark.parametrize("system", ["smvae", "mvae", "crmvae"])
def test_sets_one_by_one_are_the_steps_of_the_model(tmp_path, batch, backend, system):
    model = saved(tmp_path / "model.safetensors", system)
    fusions = run(Engine.load(tmp_path / "model.safetensors", "cpu", backend), batch)
    state = model.memory.start(1)
    for row, (names, elapsed, fusion) in enumerate(zip(SETS, ELAPSED, fusions)):
        with torch.no_grad():
            one = {name: batch[name][row : row + 1] for name in NAMES}
            mask = torch.tensor([[name in names for name in NAMES]])
            posterior, state = model.step(one, mask, state, torch.tensor([elapsed]))
            predictions = model.predict(posterior.mean)
        np.testing.assert_allclose(fusion.mean, posterior.mean[0], atol=1e-4)
        np.testing.assert_allclose(fusion.log_variance, posterior.log_variance[0], atol=1e-4)
        np.testing.assert_allclose(fusion.state.hidden, state.hidden[0], atol=1e-4)
        np.testing.assert_allclose(fusion.attention_of_memory, posterior.attention[0, -1], atol=1e-4)
        total = sum(fusion.attention.values()) + fusion.attention_of_memory
        assert total == pytest.approx(1.0, abs=1e-5)
        for name in NAMES:
            np.testing.assert_allclose(fusion.predictions[name], predictions[name][0], atol=1e-4)
    assert [fusion.memory_age for fusion in fusions] == [None, 0.05, 0.4, pytest.approx(0.5), 1.5]


def test_a_cuda_graph_with_memory_agrees_with_eager(tmp_path, remembering, batch, monkeypatch):
    monkeypatch.setattr(cuda_graph, "Recorder", Rerun)
    expected, found = (
        run(Engine.load(tmp_path / "memory.safetensors", "cpu", name), batch) for name in ("eager", "cuda_graph")
    )
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one.mean, other.mean, atol=1e-4)
        np.testing.assert_allclose(one.state.hidden, other.state.hidden, atol=1e-4)
        assert one.memory_age == other.memory_age


def test_all_subsets_start_from_one_state_and_each_has_its_own_after(tmp_path, remembering, batch):
    engine = Engine.load(tmp_path / "memory.safetensors", "cpu", "eager")
    state = engine.infer(arrays_of(batch, 0)).state
    before = state.hidden.copy()
    arrays, subsets = arrays_of(batch, 1), [*all_subsets(NAMES), ()]
    for subset, together in zip(subsets, engine.infer_subsets(arrays, subsets, ["depth"], state, 0.1)):
        alone = engine.infer(arrays_of(batch, 1, subset), ["depth"], state, 0.1)
        np.testing.assert_allclose(together.mean, alone.mean, atol=1e-5)
        np.testing.assert_allclose(together.state.hidden, alone.state.hidden, atol=1e-5)
        assert together.state.age == alone.state.age == (0.0 if subset else 0.1)
    np.testing.assert_array_equal(state.hidden, before)


def test_nothing_is_remembered_at_first_after_the_horizon_and_when_time_goes_back(tmp_path, remembering, batch):
    engine = Engine.load(tmp_path / "memory.safetensors", "cpu", "eager")
    arrays = arrays_of(batch, 0, ("force",))
    first = engine.infer(arrays)
    state = engine.infer(arrays_of(batch, 1)).state
    assert engine.infer(arrays, state=state, elapsed=HORIZON).memory_age == HORIZON
    for elapsed in (HORIZON + 0.01, -0.1):
        forgetful = engine.infer(arrays, state=state, elapsed=elapsed)
        assert forgetful.memory_age is None and forgetful.attention_of_memory == 0.0
        np.testing.assert_array_equal(forgetful.mean, first.mean)
    # Empty sets bring nothing to remember: the horizon counts from the newest observation.
    for _ in range(2):
        forecast = engine.infer({}, state=state, elapsed=0.75 * HORIZON)
        state = forecast.state
    assert forecast.memory_age is None and state.age is None and not forecast.mean.any()


def test_the_empty_set_is_the_forecast(tmp_path, remembering, batch):
    engine = Engine.load(tmp_path / "memory.safetensors", "cpu", "eager")
    state = engine.infer(arrays_of(batch, 0)).state
    forecast = engine.infer({}, ["rgb"], state, 0.5)
    assert forecast.modalities == () and forecast.attention == {}
    assert forecast.attention_of_memory == pytest.approx(1.0) and forecast.mean.any()


def test_a_checkpoint_without_memory_has_no_state(path, batch):
    engine = Engine.load(path, "cpu", "eager")
    fusion = engine.infer(arrays_of(batch, 0))
    assert engine.memory is None and fusion.state is None and fusion.memory_age is None
    assert fusion.attention_of_memory == 0.0


def test_what_is_no_state_of_this_model_is_refused_in_one_sentence(tmp_path, remembering, path, batch):
    engine = Engine.load(tmp_path / "memory.safetensors", "cpu", "eager")
    arrays = arrays_of(batch, 0)
    saved(tmp_path / "other.safetensors", seed=1)
    other = Engine.load(tmp_path / "other.safetensors", "cpu", "eager").infer(arrays).state
    own = engine.infer(arrays).state
    # The same weights on another back end are the same model.
    assert Engine.load(tmp_path / "memory.safetensors", "cpu", "onnx").infer(arrays, (), own, 0.1).memory_age == 0.1
    for state, elapsed, message in (
        (other, 0.1, "expected a state of this model, found one of another"),
        (remembering.memory.start(3), 0.1, "found a smvae_core.model.memory.MemoryState"),
        (own, None, "expected the seconds since the set of the state, found None"),
        (own, float("nan"), "found nan"),
        (own, "soon", "found 'soon'"),
    ):
        with pytest.raises(EngineError, match=message) as caught:
            engine.infer(arrays, state=state, elapsed=elapsed)
        assert "\n" not in str(caught.value)
    with pytest.raises(EngineError, match="the checkpoint has no memory"):
        Engine.load(path, "cpu", "eager").infer(arrays, state=own, elapsed=0.1)


def test_an_exported_graph_takes_and_gives_the_state(tmp_path, remembering, batch):
    exported = export_onnx(checkpoint.load(tmp_path / "memory.safetensors"), tmp_path / "model.onnx")
    assert exported.inputs["hidden"] == "B×8" and exported.outputs["next_hidden"] == "B×8"
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    state = {"hidden": np.zeros((1, 8), np.float32), "present": np.array([False])}
    fusions = run(Engine.load(tmp_path / "memory.safetensors", "cpu", "eager"), batch)
    for row, (subset, elapsed, fusion) in enumerate(zip(SETS, ELAPSED, fusions)):
        inputs = {name: x[None] for name, x in arrays_of(batch, row).items()} | state
        inputs |= {
            "mask": np.array([[name in subset for name in NAMES]]),
            "elapsed": np.array([elapsed], np.float32),
        }
        found = dict(zip(names, session.run(None, inputs)))
        np.testing.assert_allclose(found["mean"][0], fusion.mean, atol=1e-4)
        state = {"hidden": found["next_hidden"], "present": found["next_present"]}

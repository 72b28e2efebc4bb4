"""CUDA graphs: on a processor with a stand-in for the recorder, on a GPU the real ones."""

import copy
import gc
import logging

import numpy as np
import pytest
import torch

from smvae_core.inference import building, cuda_graph, engine
from smvae_core.inference.backend import (
    HALF_TOLERANCE,
    TOLERANCE,
    BackendError,
    TorchBackend,
    difference,
    disagreement,
    trial,
)
from smvae_core.inference.building import candidates
from smvae_core.inference.cuda_graph import CudaGraphBackend
from smvae_core.inference.engine import Engine

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU to capture a graph on")


@pytest.fixture
def without_device(monkeypatch):
    """What would be recorded runs again each time, on the processor."""
    monkeypatch.setattr(cuda_graph, "Recorder", Rerun)


class Rerun:
    """A stand-in for `Recorder`."""

    def __init__(self, device):
        self.recorded, self.waits = 0, 0

    def record(self, function):
        self.recorded += 1
        function()
        return function

    def parallel(self, branches):
        return [branch() for branch in branches]

    def wait(self):
        self.waits += 1


@pytest.fixture
def on_the_processor(monkeypatch):
    """`auto` tries graphs on a processor too."""
    monkeypatch.setattr(building, "candidates", lambda device, precision: ["cuda_graph"])


def test_graphs_are_tried_on_a_gpu_alone_and_half_precision_where_it_is_wanted():
    import onnxruntime  # noqa: F401  (skipped without it)

    gpu = torch.device("cuda")
    assert candidates(gpu, "single") == ["channels_last", "cuda_graph"]
    assert candidates(gpu, "half") == ["channels_last", "cuda_graph", "cuda_graph_half"]
    assert candidates(CPU, "single") == candidates(CPU, "half") == ["channels_last", "onnx"]


@pytest.mark.parametrize("half", [False, True], ids=["single", "half"])
def test_every_set_agrees_with_eager(model, without_device, half):
    agrees(model, CPU, half)


@needs_gpu
@pytest.mark.parametrize("half", [False, True], ids=["single", "half"])
def test_every_set_agrees_with_eager_on_the_gpu(model, half):
    agrees(model, torch.device("cuda"), half)


def agrees(model, device, half):
    """One by one and all at once, everything predicted, part of it and nothing."""
    backend = CudaGraphBackend(copy.deepcopy(model).to(device), device, half)
    eager = TorchBackend(copy.deepcopy(model), device, torch.contiguous_format)
    arrays, masks = trial(model.configuration)
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    assert disagreement(backend, eager, arrays, masks) <= tolerance
    assert difference(backend.run(arrays, masks, list(arrays)), eager.run(arrays, masks, list(arrays))) <= tolerance
    for mask in masks:
        given = {name: array for name, array in arrays.items() if mask[model.names.index(name)]}
        for predict in ([], ["force"], ["rgb", "depth"]):
            found, expected = (one.run(given, mask[None], predict) for one in (backend, eager))
            assert list(found.predictions) == predict
            assert difference(found, expected) <= tolerance


def test_what_was_given_out_stays_as_it_was_when_the_next_set_comes(model, without_device):
    backend = CudaGraphBackend(model, CPU)
    arrays, masks = trial(model.configuration)
    first = backend.run(arrays, masks[:1], ["rgb"])
    kept = first.mean.copy(), first.predictions["rgb"].copy()
    second = backend.run({name: 1.0 - array for name, array in arrays.items()}, masks[:1], ["rgb"])
    assert not np.array_equal(first.mean, second.mean)
    assert np.array_equal(first.mean, kept[0]) and np.array_equal(first.predictions["rgb"], kept[1])


def test_a_set_is_one_launch_and_one_wait_and_others_graphs_are_recorded_when_they_are_needed(model, without_device):
    backend = CudaGraphBackend(model, CPU)
    arrays, masks = trial(model.configuration)
    backend.run(arrays, masks[:1], list(arrays))
    backend.run(arrays, masks[:1], [])
    assert (backend._recorder.recorded, backend._recorder.waits) == (2, 2)
    backend.run(arrays, masks[:1], ["rgb"])
    backend.run(arrays, masks[:1], ["rgb"])
    assert (backend._recorder.recorded, backend._recorder.waits) == (3, 4)


def test_nan_of_an_earlier_set_does_not_stay(model, without_device):
    backend = CudaGraphBackend(model, CPU)
    arrays, masks = trial(model.configuration)
    alone = masks[[list(mask) == [False, False, True, False] for mask in masks]]
    before = backend.run(arrays, alone, ["rgb"])
    backend.run({**arrays, "rgb": np.full_like(arrays["rgb"], np.nan)}, masks[:1], ["rgb"])
    after = backend.run(arrays, alone, ["rgb"])
    assert np.isfinite(after.mean).all() and after.mean.tobytes() == before.mean.tobytes()
    assert after.predictions["rgb"].tobytes() == before.predictions["rgb"].tobytes()


def test_half_precision_leaves_the_model_as_it_was(model, without_device):
    CudaGraphBackend(model, CPU, half=True)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, on which capturing does not fail")
def test_where_capturing_fails_the_engine_says_so_and_runs_without(path, on_the_processor, caplog):
    one = Engine.load(path, "cpu")
    with caplog.at_level(logging.WARNING):
        one.warm_up()
    assert one.backend == "eager" and set(one.timings) == {"eager"}
    assert "'cuda_graph' cannot record the model on cpu" in caplog.text and "doing without" in caplog.text
    assert one.infer({}, ["rgb"]).predictions["rgb"].shape == (3, 64, 64)
    with pytest.raises(BackendError, match="'cuda_graph' cannot record the model on cpu"):
        Engine.load(path, "cpu", "cuda_graph")


@pytest.mark.parametrize("faster", ["eager", "cuda_graph"])
def test_graphs_run_where_they_are_measured_faster(path, on_the_processor, without_device, monkeypatch, faster):
    monkeypatch.setattr(engine, "measure", lambda found, _: {name: float(name != faster) for name in found})
    one = Engine.load(path, "cpu")
    one.warm_up()
    assert one.backend == faster and set(one.timings) == {"eager", "cuda_graph"}


def test_graphs_that_do_not_agree_with_eager_are_not_taken(path, on_the_processor, without_device, monkeypatch, caplog):
    run = CudaGraphBackend.run
    monkeypatch.setattr(
        CudaGraphBackend, "run", lambda *given: (found := run(*given))._replace(mean=found.mean + 2 * TOLERANCE)
    )
    one = Engine.load(path, "cpu")
    one.warm_up()
    assert set(one.timings) == {"eager"}
    assert "expected 'cuda_graph' to agree with eager to 0.0001" in caplog.text


@needs_gpu
def test_on_a_gpu_graphs_are_measured_and_leave_its_memory_when_they_are_released(path):
    gc.collect()  # what the tests before left, which would be freed in between
    before = torch.cuda.memory_allocated()
    one = Engine.load(path, "cuda", precision="half")
    one.warm_up()
    assert {"eager", "cuda_graph", "cuda_graph_half"} <= set(one.timings)
    one.release()
    assert torch.cuda.memory_allocated() == before


@needs_gpu
def test_graphs_outlive_those_of_an_engine_that_was_released(path):
    first, second = (Engine.load(path, "cuda", "cuda_graph") for _ in range(2))
    arrays, _ = trial(first.metadata.model)
    expected = second.infer(arrays, list(arrays))
    first.release()
    hold = torch.full((64, 1024, 1024), float("nan"), device="cuda")  # takes whatever memory was freed
    found = second.infer(arrays, list(arrays))
    assert found.mean.tobytes() == expected.mean.tobytes() and hold.isnan().all()

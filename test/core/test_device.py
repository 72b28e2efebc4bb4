"""Which device a name means, and what becomes of devices that do not work."""

import logging
import warnings

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from smvae_core import device as devices
from smvae_core.device import DeviceLostError, EngineError, arithmetic, checked_device, device_errors, torch_device

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def gpu(monkeypatch):
    """A torch that finds two GPUs, both of which work."""
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    monkeypatch.setattr(devices, "_probe", lambda gpu: None)


def fails(message, kind=RuntimeError):
    def probe(gpu):
        raise kind(message)

    return probe


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:11"])
def test_names_of_devices(name):
    assert checked_device(name) == name


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:-1", "cuda:x", "CPU", "cpu:0", "cuda:1 "])
def test_other_names_are_refused(name):
    with pytest.raises(EngineError, match="device: expected auto, cpu, cuda or cuda:N, found"):
        torch_device(name)


def test_settings_refuse_other_names_in_the_same_words():
    with pytest.raises(ValidationError, match="expected auto, cpu, cuda or cuda:N, found 'gpu'"):
        TypeAdapter(devices.Device).validate_python("gpu")


def test_auto_takes_the_first_gpu_and_any_may_be_named(gpu):
    assert torch_device("auto") == torch.device("cuda")
    assert torch_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(EngineError, match="'cuda:2' was asked for, but torch finds 2 GPUs"):
        torch_device("cuda:2")


def test_a_wheel_without_kernels_for_the_gpu_is_named_and_auto_falls_back(gpu, monkeypatch, caplog):
    message = "CUDA error: no kernel image is available for execution on the device\nCompile with TORCH_USE_CUDA_DSA"
    monkeypatch.setattr(devices, "_probe", fails(message))
    assert torch_device("auto") == CPU
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "no kernel image" in record.message
    assert "has kernels for sm_80, sm_90" in record.message and "running on the processor" in record.message
    assert "TORCH_USE_CUDA_DSA" not in record.message
    with pytest.raises(EngineError, match="'cuda' was asked for, but cuda fails at the first kernel .*no kernel image"):
        torch_device("cuda")


def test_a_node_may_log_the_fallback_itself(gpu, monkeypatch, caplog):
    monkeypatch.setattr(devices, "_probe", fails("out of memory"))
    told = []
    assert torch_device("auto", told.append) == CPU
    assert len(told) == 1 and "out of memory" in told[0] and not caplog.records


def test_a_driver_that_is_too_old_is_named(gpu, monkeypatch):
    def available():
        told = "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040).\nUpdate"
        warnings.warn(told, stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", available)
    with pytest.raises(EngineError, match=r"torch finds no GPU \(.*driver on your system is too old .*11040\)\.?\)"):
        torch_device("cuda")


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is built with CUDA")
def test_a_torch_without_cuda_is_named():
    assert torch_device("auto") == CPU
    with pytest.raises(EngineError, match="'cuda:0' was asked for, but torch .* is built without CUDA; choose 'cpu'"):
        torch_device("cuda:0")


def test_the_probe_is_right_about_a_device_that_works():
    devices._probe(CPU)


def test_out_of_memory_is_one_sentence_and_the_next_call_may_work(gpu):
    with pytest.raises(EngineError, match="cuda: out of memory .*Tried to allocate") as raised, device_errors(GPU):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee documentation")
    assert not isinstance(raised.value, DeviceLostError) and "\n" not in str(raised.value)


def test_a_gpu_that_fails_at_everything_is_lost(gpu, monkeypatch):
    with pytest.raises(EngineError) as raised, device_errors(GPU):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    assert not isinstance(raised.value, DeviceLostError)
    monkeypatch.setattr(devices, "_probe", fails("CUDA error: device-side assert triggered"))
    lost = pytest.raises(DeviceLostError, match="the GPU stopped working .*illegal memory access.*restart")
    with lost, device_errors(GPU):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_errors_on_a_processor_pass():
    with pytest.raises(RuntimeError, match="a bug"), device_errors(CPU):
        raise RuntimeError("a bug")


@pytest.mark.parametrize("tf32", [False, True])
def test_arithmetic_of_a_gpu_is_fixed_inside_and_restored_after(tf32):
    def flags():
        cudnn = torch.backends.cudnn
        return cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32

    before = flags()
    with arithmetic(GPU, tf32):
        assert flags() == (tf32, True, False, tf32)
    assert flags() == before
    with arithmetic(CPU, tf32):
        assert flags() == before

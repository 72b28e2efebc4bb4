"""The back ends that there are, and which of them a device may take."""

import copy
from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal

import torch

from smvae_core.inference.backend import Backend, BackendError, TorchBackend
from smvae_core.inference.cuda_graph import CudaGraphBackend
from smvae_core.inference.onnx_runtime import OnnxBackend
from smvae_core.model.vae import MultimodalVAE

BackendName = Literal["eager", "channels_last", "onnx", "cuda_graph", "cuda_graph_half"]
Precision = Literal["single", "tf32", "half"]


def candidates(device: torch.device, precision: Precision) -> list[BackendName]:
    """Return the back ends that `auto` measures beside eager on a device."""
    names: list[BackendName] = ["channels_last"]
    if device.type == "cuda":
        names.append("cuda_graph")
        if precision == "half":
            names.append("cuda_graph_half")
    elif find_spec("onnx") and find_spec("onnxruntime"):
        names.append("onnx")
    return names


def _eager(model: MultimodalVAE, device: torch.device, tf32: bool) -> Backend:
    return TorchBackend(_for(device, model), device, torch.contiguous_format, tf32)


def _channels_last(model: MultimodalVAE, device: torch.device, tf32: bool) -> Backend:
    return TorchBackend(copy.deepcopy(model), device, torch.channels_last, tf32)


def _onnx(model: MultimodalVAE, device: torch.device, tf32: bool) -> Backend:
    if device.type != "cpu":
        raise BackendError(f"backend: 'onnx' runs on a processor, but the device is '{device}'; choose 'auto'")
    # A copy, since the exporter changes the modes of the modules, which another thread may be running.
    return OnnxBackend(copy.deepcopy(model))


def _for(device: torch.device, model: MultimodalVAE) -> MultimodalVAE:
    """Return a model that may be moved to the device: the host keeps its weights, whatever becomes of a GPU."""
    return model if device.type == "cpu" else copy.deepcopy(model)


BUILD: dict[BackendName, Callable[[MultimodalVAE, torch.device, bool], Backend]] = {
    "eager": _eager,
    "channels_last": _channels_last,
    "onnx": _onnx,
    "cuda_graph": lambda model, device, tf32: CudaGraphBackend(model, device, tf32=tf32),
    "cuda_graph_half": lambda model, device, tf32: CudaGraphBackend(model, device, half=True),
}
"""How each back end is built: from a model, for a device, with or without TF32."""

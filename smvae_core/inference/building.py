"""The back ends that there are, which of them a device may take, and how they are built."""

import copy
import logging
from collections.abc import Callable
from typing import Literal, get_args

import torch

from smvae_core.inference.backend import (
    HALF_TOLERANCE,
    TF32_TOLERANCE,
    TOLERANCE,
    Backend,
    BackendError,
    TorchBackend,
    disagreement,
    trial,
    trial_memory,
)
from smvae_core.inference.cuda_graph import CudaGraphBackend
from smvae_core.inference.onnx_runtime import OnnxBackend, is_installed
from smvae_core.model.vae import MultimodalVAE

BackendName = Literal["eager", "channels_last", "onnx", "cuda_graph", "cuda_graph_half"]
Precision = Literal["single", "tf32", "half"]
_log = logging.getLogger(__name__)


def candidates(device: torch.device, precision: Precision) -> list[BackendName]:
    """Return the back ends that `auto` measures beside eager on a device."""
    names: list[BackendName] = ["channels_last"]
    if device.type == "cuda":
        names.append("cuda_graph")
        if precision == "half":
            names.append("cuda_graph_half")
    elif is_installed():
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


def build(name: BackendName, model: MultimodalVAE, device: torch.device, precision: Precision) -> Backend:
    """Return a back end that agrees with eager without TF32.

    Raises:
        BackendError: there is no such back end here, or it does not agree.
    """
    if name not in BUILD:
        raise BackendError(f"backend: expected 'auto' or one of {', '.join(get_args(BackendName))}, found '{name}'")
    tf32 = precision == "tf32"
    backend = BUILD[name](model, device, tf32)
    if name == "eager":
        return backend
    eager = BUILD["eager"](model, device, False)
    arrays, masks = trial(model.configuration)
    # Everything, one modality alone, and nothing: other sets take the same path.
    worst = disagreement(backend, eager, arrays, masks[[0, -2, -1]], trial_memory(model.configuration))
    tolerance = HALF_TOLERANCE if name == "cuda_graph_half" else TF32_TOLERANCE if tf32 else TOLERANCE
    if not worst <= tolerance:
        raise BackendError(f"backend: expected '{name}' to agree with eager to {tolerance:g}, found {worst:.2g}")
    return backend


def build_all(
    model: MultimodalVAE, device: torch.device, precision: Precision, stop: Callable[[], bool]
) -> dict[BackendName, Backend]:
    """Return eager and the other back ends that the device may take and that work here.

    Args:
        model: what they run.
        device: where.
        precision: of a GPU.
        stop: asked before each back end but eager; once it says so, the rest is left out.
    """
    found: dict[BackendName, Backend] = {}
    names: list[BackendName] = ["eager", *candidates(device, precision)]
    for name in names:
        if found and stop():
            break
        try:
            found[name] = build(name, model, device, precision)
        except BackendError as error:
            _log.warning("%s; doing without", error)
    return found

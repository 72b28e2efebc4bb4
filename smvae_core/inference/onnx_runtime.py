"""A model through ONNX Runtime, on a processor (needs the extra 'onnx').

Three kinds of small graph instead of one large one: an embedding network for each modality, the set encoder, and a
decoder for each modality. So what is absent is not embedded and what nobody asked for is not decoded.
"""

import importlib
import io
import warnings
from collections.abc import Collection, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from smvae_core.inference.backend import Arrays, BackendError, Outputs
from smvae_core.model.likelihood import expectation
from smvae_core.model.vae import MultimodalVAE


class OnnxBackend:
    """ONNX Runtime, one thread. Exporting and optimising the graphs takes about half a second.

    Raises:
        BackendError: a package is missing, or the model has a part that ONNX cannot express.
    """

    def __init__(self, model: MultimodalVAE) -> None:
        configuration = model.configuration
        latent = torch.zeros(1, configuration.latent)
        slots = len(configuration.modalities)
        embeddings = torch.zeros(1, slots, model.width)
        self._names = model.names
        self._width = model.width
        self._embed = {
            m.name: session(to_onnx(model.embeddings[m.name], {"x": torch.zeros(1, *m.shape)}, ["embedding"]))
            for m in configuration.modalities
        }
        self._fuse = session(
            to_onnx(
                model.fusion,
                {"embeddings": embeddings, "mask": torch.ones(1, slots, dtype=torch.bool)},
                ["mean", "log_variance", "attention"],
            )
        )
        self._decode = {name: session(to_onnx(_Prediction(model, name), {"z": latent}, ["x"])) for name in model.names}

    def run(self, arrays: Arrays, masks: np.ndarray, predict: Collection[str]) -> Outputs:
        """As `Backend.run`."""
        embeddings = np.zeros((len(masks), len(self._names), self._width), np.float32)
        for column, name in enumerate(self._names):
            if masks[:, column].any():
                x = np.ascontiguousarray(arrays[name], np.float32)[None]
                embeddings[:, column] = self._embed[name].run(None, {"x": x})[0]
        mean, log_variance, attention = self._fuse.run(None, {"embeddings": embeddings, "mask": masks})
        predictions = {name: self._decode[name].run(None, {"z": mean})[0] for name in predict}
        return Outputs(mean, log_variance, attention, predictions)


class _Prediction(nn.Module):
    """z to E[x_m | z] of one modality."""

    def __init__(self, model: MultimodalVAE, name: str) -> None:
        super().__init__()
        self.decoder = model.decoders[name]
        self.modality = model.modalities[name]

    def forward(self, z: Tensor) -> Tensor:
        return expectation(self.modality, self.decoder(z))


def to_onnx(module: nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str]) -> bytes:
    """An ONNX graph (opset 17) of a module; the first dimension of every input and output is free.

    Args:
        inputs: an example of each, by name, in the order of `forward`.
        outputs: names.

    Raises:
        BackendError: a package is missing, or the module does what ONNX cannot express.
    """
    required("onnx")
    content = io.BytesIO()
    try:
        with warnings.catch_warnings():
            # The exporter that PyTorch would rather have us use needs a second per network, this one milliseconds.
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                content,
                dynamo=False,
                opset_version=17,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)},
            )
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise BackendError(f"onnx: {type(module).__name__} cannot be exported ({reason})") from None
    return content.getvalue()


def session(graph: bytes) -> Any:
    """An `onnxruntime.InferenceSession` of a graph, on the processor, in the thread that calls it.

    Raises:
        BackendError: onnxruntime is missing.
    """
    runtime = required("onnxruntime")
    options = runtime.SessionOptions()
    # The networks are too small to share out, and each session would bring threads of its own.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def required(package: str) -> ModuleType:
    """The package, imported.

    Raises:
        BackendError: it is not installed, and how to install it, or it cannot be imported, and why.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        if error.name == package:
            raise BackendError(
                f"onnx: the package '{package}' is not installed: pip install 'smvae_ros[onnx]'"
            ) from None
        raise BackendError(f"onnx: the package '{package}' cannot be imported ({error})") from None

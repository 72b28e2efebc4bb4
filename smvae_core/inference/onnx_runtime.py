"""A model in ONNX Runtime, on a processor (needs the extra 'onnx').

Each embedding network, the set encoder and each decoder is a graph of its own, so absent modalities are not embedded,
and only predictions that were asked for are decoded.
"""

import copy
import importlib
import io
import warnings
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from smvae_core.inference.backend import TOLERANCE, Arrays, BackendError, Outputs, trial, trial_memory
from smvae_core.inference.folded_attention import folded_fusion
from smvae_core.inference.state import Recalled, RecallingFusion, nothing
from smvae_core.model.likelihood import expectation
from smvae_core.model.memory import MemoryState
from smvae_core.model.vae import MultimodalVAE
from smvae_core.systems.posterior import Posterior


class OnnxBackend:
    """ONNX Runtime with one thread. Exporting and optimising the graphs takes about half a second.

    Raises:
        BackendError: a package is missing, or ONNX cannot express a part of the model.
    """

    def __init__(self, model: MultimodalVAE) -> None:
        configuration = model.configuration
        latent = torch.zeros(1, configuration.latent)
        self._names = model.names
        self._width = model.width
        self._embed = {
            m.name: session(to_onnx(model.embeddings[m.name], {"x": torch.zeros(1, *m.shape)}, ["embedding"], free=[]))
            for m in configuration.modalities
        }
        self._fusion = FusionGraph(model)
        self._decode = {name: session(to_onnx(_Prediction(model, name), {"z": latent}, ["x"])) for name in model.names}

    def run(
        self, arrays: Arrays, masks: np.ndarray, predict: Collection[str], recalled: Recalled | None = None
    ) -> Outputs:
        """Fuse as `Backend.run` says."""
        embeddings = np.zeros((1, len(self._names), self._width), np.float32)
        for column, name in enumerate(self._names):
            if masks[:, column].any():
                x = np.ascontiguousarray(arrays[name], np.float32)[None]
                embeddings[:, column] = self._embed[name].run(None, {"x": x})[0]
        mean, log_variance, attention, hidden, slot = self._fusion(embeddings, masks, recalled)
        if slot is not None:
            embeddings = np.concatenate([embeddings, slot[:, None]], axis=1)
        predictions = {name: self._decode[name].run(None, {"z": mean})[0] for name in predict}
        return Outputs(mean, log_variance, attention, predictions, hidden, embeddings[0])


class Fused(NamedTuple):
    """The result of a `FusionGraph` for S subsets of one set; all float32.

    Attributes:
        mean, log_variance: (S, L).
        attention: (S, M), with memory (S, M + 1).
        hidden: h after each, (S, H); None without memory.
        slot: the embedding of memory, (1, d); None without.
    """

    mean: np.ndarray
    log_variance: np.ndarray
    attention: np.ndarray
    hidden: np.ndarray | None = None
    slot: np.ndarray | None = None


class FusionGraph:
    """Posterior and memory of embedded sets.

    Args:
        model: in evaluation mode afterwards.

    Raises:
        BackendError: a package is missing, or ONNX cannot express the posterior network.
    """

    def __init__(self, model: MultimodalVAE) -> None:
        self._memory = model.configuration.memory
        slots = len(model.names)
        inputs = {
            "embeddings": torch.zeros(1, slots, model.width),
            "mask": torch.ones(1, slots, dtype=torch.bool),
        }
        outputs = ["mean", "log_variance", "attention"]
        if model.memory is not None:
            inputs |= model.memory.start(1)._asdict() | {"elapsed": torch.zeros(1)}
            outputs += ["next_hidden", "slot"]
        self._session = session(to_onnx(_Fusion(model), inputs, outputs, free=["mask"]))

    def __call__(self, embeddings: np.ndarray, masks: np.ndarray, recalled: Recalled | None = None) -> Fused:
        """Fuse S subsets, (S, M) bool, of the embeddings (1, M, d) of one set; None: nothing is remembered."""
        inputs = {"embeddings": embeddings, "mask": masks}
        if self._memory is not None:
            inputs |= onnx_memory(recalled or nothing(self._memory), 1)
        return Fused(*self._session.run(None, inputs))


def agreeing_fusion(model: MultimodalVAE) -> FusionGraph:
    """Return the graph of a model with memory, after comparing it with PyTorch.

    Raises:
        BackendError: it does not agree, or as `FusionGraph`.
    """
    model = copy.deepcopy(model).eval()  # the exporter changes the modes of the modules
    graph, eager = FusionGraph(model), RecallingFusion(model)
    _, masks = trial(model.configuration)
    embeddings = np.random.default_rng(0).standard_normal((1, len(model.names), model.width), np.float32)
    worst = 0.0
    for recalled in trial_memory(model.configuration):
        found = graph(embeddings, masks, recalled)
        recalled = recalled or nothing(eager.memory.configuration)
        with torch.inference_mode():
            rows = torch.from_numpy(embeddings).expand(len(masks), -1, -1)
            posterior, hidden = eager.step(rows, torch.from_numpy(masks), recalled)
        pairs = zip(found, (*posterior, hidden))
        worst = max(worst, *(float(np.abs(one - other.numpy()).max()) for one, other in pairs if one is not None))
    if not worst <= TOLERANCE:
        raise BackendError(f"onnx: expected memory to agree with PyTorch to {TOLERANCE:g}, found {worst:.2g}")
    return graph


class _Fusion(nn.Module):
    """The posteriors of several subsets of one set with one state of memory, and the memory after each."""

    def __init__(self, model: MultimodalVAE) -> None:
        super().__init__()
        self.fusion = folded_fusion(model.fusion)
        self.memory = model.memory

    def forward(self, embeddings: Tensor, mask: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return mean (S, L), log variance (S, L) and attention (S, C) of embeddings (1, M, d) under masks (S, M).

        With memory, also the next h (S, H), and the embedding of memory (1, d), from a state of one row: h (1, H),
        whether it counts (1,), and the seconds since (1,).
        """
        if self.memory is None:
            return tuple(x[:, 0] for x in self.fusion(embeddings, mask[:, None]))
        before, elapsed = MemoryState(*state[:2]), state[2]
        remembered = self.memory.recall(before, elapsed)
        slots = torch.cat([embeddings, remembered.embedding[:, None]], dim=1)
        given = torch.cat([mask, remembered.present.expand(mask.shape[0])[:, None]], dim=1)
        posterior = Posterior(*(x[:, 0] for x in self.fusion(slots, given[:, None])))
        after = self.memory.advance(before, elapsed, posterior, mask)
        return *posterior, after.hidden, remembered.embedding


class _Prediction(nn.Module):
    """The network from z to E[x_m | z] of one modality."""

    def __init__(self, model: MultimodalVAE, name: str) -> None:
        super().__init__()
        self.decoder = model.decoders[name]
        self.modality = model.modalities[name]

    def forward(self, z: Tensor) -> Tensor:
        """Return E[x_m | z] (B, *shape) of z (B, L)."""
        return expectation(self.modality, self.decoder(z))


def onnx_memory(recalled: Recalled, rows: int) -> dict[str, np.ndarray]:
    """Return the inputs of a graph with memory: the same state for every row."""
    return {
        "hidden": np.repeat(recalled.hidden[None], rows, axis=0),
        "present": np.full(rows, recalled.age is not None),
        "elapsed": np.full(rows, recalled.elapsed, np.float32),
    }


def to_onnx(
    module: nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str], free: Collection[str] | None = None
) -> bytes:
    """Return the ONNX graph (opset 17) of a module.

    Args:
        module: in evaluation mode afterwards.
        inputs: an example of each input, by name, in the order of `forward`.
        outputs: names of the outputs.
        free: the inputs whose first dimension is free, by default all; then that of every output is free, too. What is
            fixed makes a smaller and faster graph.

    Raises:
        BackendError: a package is missing, or ONNX cannot express the module.
    """
    required("onnx")
    content = io.BytesIO()
    freed = [*inputs, *outputs] if free is None else [*free, *(outputs if free else ())]
    try:
        with warnings.catch_warnings():
            # The exporter that PyTorch recommends takes a second a network, this one milliseconds.
            warnings.simplefilter("ignore", DeprecationWarning)
            # Of values that are constant in the graph: whoever takes a graph compares it with the module.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            # Of slices that the exporter itself writes where an edge is repeated.
            warnings.filterwarnings("ignore", "Constant folding", UserWarning)
            torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                content,  # type: ignore[arg-type]  # without dynamo, file-like objects are taken too
                dynamo=False,
                opset_version=17,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={name: {0: "batch"} for name in freed},
            )
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise BackendError(f"onnx: {type(module).__name__} cannot be exported ({reason})") from None
    return content.getvalue()


def session(graph: bytes) -> Any:
    """Return an `onnxruntime.InferenceSession` of a graph that runs in the calling thread.

    Raises:
        BackendError: onnxruntime is missing.
    """
    runtime = required("onnxruntime")
    options = runtime.SessionOptions()
    # The networks are too small for several threads, and each session would start its own.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def is_installed() -> bool:
    """Return whether the packages that this module needs are there."""
    return all(map(find_spec, ("onnx", "onnxruntime")))


def required(package: str) -> ModuleType:
    """Import a package and return it.

    Raises:
        BackendError: the package is not installed, with the command that installs it; or it cannot be imported.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        if error.name == package:
            raise BackendError(
                f"onnx: the package '{package}' is not installed: pip install 'smvae_ros[onnx]'"
            ) from None
        raise BackendError(f"onnx: the package '{package}' cannot be imported ({error})") from None

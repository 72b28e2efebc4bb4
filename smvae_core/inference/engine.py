"""Inference for one set at a time: arrays of whatever arrived in, latent and predictions out.

>>> engine = Engine.load(None)
>>> engine.warm_up()                # measures the back ends that are there and takes the fastest
>>> fusion = engine.infer({"depth": depth, "force": force}, predict=["rgb"])
>>> picture = engine.modality("rgb").to_physical(fusion.predictions["rgb"])
"""

import copy
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from smvae_core import checkpoint
from smvae_core.device import Device, EngineError, torch_device
from smvae_core.inference.backend import TOLERANCE, Backend, BackendError, TorchBackend, difference, measure, trial
from smvae_core.inference.cuda_graph import HALF_TOLERANCE, CudaGraphBackend
from smvae_core.inference.onnx_runtime import OnnxBackend
from smvae_core.modality import Modality
from smvae_core.model.vae import MultimodalVAE

BackendName = Literal["eager", "channels_last", "onnx", "cuda_graph", "cuda_graph_half"]
Precision = Literal["single", "half"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fusion:
    """What one set says.

    Attributes:
        modalities: in the set.
        mean: μ, float32 (L,).
        log_variance: log σ², float32 (L,).
        attention: weight of each modality in the set; sums to 1.
        predictions: E[x_m | z = μ], float32 (*shape), model units.
    """

    modalities: tuple[str, ...]
    mean: np.ndarray
    log_variance: np.ndarray
    attention: dict[str, float]
    predictions: dict[str, np.ndarray]


class Engine:
    """A loaded model, ready to run. One thread at a time may use it.

    Attributes:
        backend: that runs it now. With `auto` that is eager until `warm_up` has measured.
        timings: seconds for one whole set with everything predicted, by back end; empty until measured.
        device: where it runs.
        metadata: what the checkpoint says.
        modalities: in the order of the model.
        latent: dimensions of z.
        mean: of each modality over the training data, model units.
    """

    def __init__(
        self,
        loaded: checkpoint.Checkpoint,
        device: Device = "auto",
        backend: BackendName | Literal["auto"] = "auto",
        precision: Precision = "single",
    ) -> None:
        self.device = torch_device(device)
        self.metadata = loaded.metadata
        self.mean = {name: x.numpy() for name, x in loaded.mean.items()}
        self.modalities: tuple[Modality, ...] = loaded.metadata.model.modalities
        self.latent = loaded.metadata.model.latent
        self.timings: dict[BackendName, float] = {}
        self._names = tuple(modality.name for modality in self.modalities)
        self._model = loaded.model
        self._undecided = backend == "auto"
        self._precision: Precision = precision
        self.backend: BackendName = "eager" if backend == "auto" else backend
        self._running: Backend | None = self._build()

    @classmethod
    def load(
        cls,
        path: str | Path | None,
        device: Device = "auto",
        backend: BackendName | Literal["auto"] = "auto",
        precision: Precision = "single",
    ) -> "Engine":
        """Load a checkpoint; None takes the one that ships with the package.

        Args:
            device: `auto` takes a GPU where there is one.
            backend: a fixed one gives the same bytes for the same set on the same machine; `auto` takes the fastest
                at `warm_up`, which another time may be another one.
            precision: half also lets `auto` take half precision on a GPU, which agrees with eager to 1e-2; on a
                processor it is much slower and never taken.

        Raises:
            CheckpointError: missing, damaged, foreign or newer.
            EngineError: an unknown device, or `cuda` was asked for and is not there.
            BackendError: the back end that was asked for is unknown or not installed, does not run on this device, or
                does not agree with eager to 1e-4, in half precision 1e-2.
        """
        loaded = checkpoint.load(checkpoint.default_checkpoint() if path is None else Path(path))
        return cls(loaded, device, backend, precision)

    def modality(self, name: str) -> Modality:
        """The modality of that name.

        Raises:
            EngineError: the checkpoint has none.
        """
        for modality in self.modalities:
            if modality.name == name:
                return modality
        raise EngineError(f"expected a modality among {[m.name for m in self.modalities]}, found '{name}'")

    def warm_up(self) -> None:
        """Choose the back end, if it is not fixed, and run every modality in and out, so that no real set is slow."""
        if self._running is None:
            self._running = self._build()
        if self._undecided:
            self._choose()
            self._undecided = False
        zeros = {modality.name: np.zeros(modality.shape, np.float32) for modality in self.modalities}
        for _ in range(3):
            self.infer(zeros, predict=list(zeros))

    def release(self) -> None:
        """Free the device's memory: the weights wait on the host, and nothing can be inferred, until `warm_up`."""
        self._running = None
        self._model.cpu()
        torch.cuda.empty_cache()

    def _build(self) -> Backend:
        eager = self._eager()
        return eager if self.backend == "eager" else _agreeing(self.backend, eager, self.device)

    def _eager(self) -> TorchBackend:
        return TorchBackend(self._model, self.device, torch.contiguous_format)

    def _choose(self) -> None:
        eager = self._eager()
        found: dict[BackendName, Backend] = {"eager": eager}
        for name in candidates(self.device, self._precision):
            try:
                found[name] = _agreeing(name, eager, self.device)
            except BackendError as error:
                _log.warning("%s; doing without", error)
        self.timings = measure(found, self.metadata.model)
        self.backend = min(found, key=lambda name: self.timings[name])
        self._running = found[self.backend]
        compared = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in self.timings.items())
        _log.info("runs with %s (%s a set)", self.backend, compared)

    def infer(self, arrays: Mapping[str, np.ndarray], predict: Collection[str] = ()) -> Fusion:
        """Fuse one set.

        Args:
            arrays: by modality, float32 (*shape), model units; any subset, the empty one too (it gives the prior).
            predict: modalities to predict, present or not.

        Raises:
            EngineError: an unknown modality, a wrong shape or type, or a released engine.
        """
        return self.infer_subsets(arrays, [tuple(arrays)], predict)[0]

    def infer_subsets(
        self, arrays: Mapping[str, np.ndarray], subsets: Sequence[Collection[str]], predict: Collection[str] = ()
    ) -> list[Fusion]:
        """Fuse several subsets of the same arrays, embedding each modality once.

        Raises:
            EngineError: an unknown modality, a wrong shape or type, a subset that names what `arrays` lacks, or a
                released engine.
        """
        if self._running is None:
            raise EngineError("the engine is released: warm_up() takes it back to the device")
        for name, array in arrays.items():
            shape = self.modality(name).shape
            # Bytes of a picture would be taken for model units, 255 times too large.
            if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
                found = getattr(array, "dtype", type(array).__name__)
                raise EngineError(
                    f"{name}: expected a NumPy array, float32 in model units, found {found}; to_model() gives it"
                )
            if array.shape != shape:
                raise EngineError(f"{name}: expected shape {shape}, found {array.shape}")
        if missing := set().union(*subsets) - set(arrays):
            raise EngineError(f"subsets: expected modalities among {sorted(arrays)}, found {sorted(missing)}")
        for name in predict:
            self.modality(name)
        names = self._names
        masks = np.array([[name in subset for name in names] for subset in subsets])
        mean, log_variance, attention, predictions = self._running.run(arrays, masks, predict)
        return [
            Fusion(
                modalities=tuple(name for name in names if name in subset),
                mean=mean[row],
                log_variance=log_variance[row],
                attention={name: float(attention[row, m]) for m, name in enumerate(names) if name in subset},
                predictions={name: x[row] for name, x in predictions.items()},
            )
            for row, subset in enumerate(subsets)
        ]


def candidates(device: torch.device, precision: Precision) -> list[BackendName]:
    """What `auto` measures against eager there."""
    names: list[BackendName] = ["channels_last"]
    if device.type == "cuda":
        names.append("cuda_graph")
        if precision == "half":
            names.append("cuda_graph_half")
    elif find_spec("onnx") and find_spec("onnxruntime"):
        names.append("onnx")
    return names


def _agreeing(name: BackendName, eager: TorchBackend, device: torch.device) -> Backend:
    if name not in _BUILD:
        raise BackendError(f"backend: expected 'auto' or one of {', '.join(get_args(BackendName))}, found '{name}'")
    backend = _BUILD[name](eager.model, device)
    arrays, masks = trial(eager.model.configuration)
    # Everything, one sense alone, and nothing: the rest are built of the same graphs.
    masks = masks[[0, -2, -1]]
    worst = difference(backend.run(arrays, masks, list(arrays)), eager.run(arrays, masks, list(arrays)))
    tolerance = HALF_TOLERANCE if name == "cuda_graph_half" else TOLERANCE
    if not worst <= tolerance:
        raise BackendError(f"backend: expected '{name}' to agree with eager to {tolerance:g}, found {worst:.2g}")
    return backend


def _channels_last(model: MultimodalVAE, device: torch.device) -> Backend:
    return TorchBackend(copy.deepcopy(model), device, torch.channels_last)


def _onnx(model: MultimodalVAE, device: torch.device) -> Backend:
    if device.type != "cpu":
        raise BackendError(f"backend: 'onnx' runs on a processor, but the device is '{device}'; choose 'auto'")
    return OnnxBackend(model)


_BUILD: dict[BackendName, Callable[[MultimodalVAE, torch.device], Backend]] = {
    "channels_last": _channels_last,
    "onnx": _onnx,
    "cuda_graph": CudaGraphBackend,
    "cuda_graph_half": partial(CudaGraphBackend, half=True),
}

"""Inference for one set at a time: arrays of the modalities that arrived in, latent and predictions out.

>>> engine = Engine.load(None)
>>> engine.warm_up()                # measures the available back ends and takes the fastest
>>> fusion = engine.infer({"depth": depth, "force": force}, predict=["rgb"])
>>> picture = engine.modality("rgb").to_physical(fusion.predictions["rgb"])

With a checkpoint that has memory, hand the state to the next call, with the seconds between the two sets:

>>> fusion = engine.infer({"force": force}, predict=["rgb"], state=fusion.state, elapsed=0.05)
>>> forecast = engine.infer({}, predict=["rgb"], state=fusion.state, elapsed=0.5)
"""

import copy
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from smvae_core import checkpoint
from smvae_core.capture import free_gpu_memory
from smvae_core.device import Device, EngineError, device_errors, torch_device
from smvae_core.inference.backend import (
    HALF_TOLERANCE,
    TF32_TOLERANCE,
    TOLERANCE,
    Backend,
    BackendError,
    TorchBackend,
    disagreement,
    measure,
    trial,
    trial_memory,
)
from smvae_core.inference.cuda_graph import CudaGraphBackend
from smvae_core.inference.onnx_runtime import OnnxBackend
from smvae_core.inference.state import EngineMemory, State
from smvae_core.modality import Modality
from smvae_core.model.vae import MultimodalVAE

BackendName = Literal["eager", "channels_last", "onnx", "cuda_graph", "cuda_graph_half"]
Precision = Literal["single", "tf32", "half"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fusion:
    """The latent of one set, and what is predicted from it.

    Attributes:
        modalities: names of the modalities in the set.
        mean: μ, float32 (L,).
        log_variance: log σ², float32 (L,).
        attention: weight of each modality in the set; sums to 1, together with the weight of memory.
        predictions: E[x_m | z = μ], float32 (*shape), model units.
        attention_of_memory: weight of memory; 0 without.
        memory_age: seconds from the newest observation in memory to this set; None where nothing was remembered.
        state: what is remembered after this set, for the next call; None for a checkpoint without memory.
    """

    modalities: tuple[str, ...]
    mean: np.ndarray
    log_variance: np.ndarray
    attention: dict[str, float]
    predictions: dict[str, np.ndarray]
    attention_of_memory: float = 0.0
    memory_age: float | None = None
    state: State | None = None


class Engine:
    """A loaded model, ready to run. One thread at a time may use it.

    `Engine.load` builds one from a file and explains the arguments.

    Attributes:
        backend: name of the back end that runs the model. With `auto` that is eager until `warm_up` has measured.
        timings: seconds for one whole set with everything predicted, by back end; empty until measured.
        device: where the model runs.
        metadata: what the checkpoint says.
        modalities: in the order of the model.
        latent: dimensions of z.
        mean: mean of each modality over the training data, model units.
        memory: settings of the checkpoint's memory; None without.
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
        self.memory = loaded.metadata.model.memory
        self._memory = EngineMemory(loaded.model, self.memory) if self.memory is not None else None
        self.timings: dict[BackendName, float] = {}
        self._names = tuple(modality.name for modality in self.modalities)
        self._model = loaded.model
        self._undecided = backend == "auto"
        self._precision: Precision = precision
        self.backend: BackendName = "eager" if backend == "auto" else backend
        with device_errors(self.device):
            self._running: Backend | None = self._build(self.backend)

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
            path: of the checkpoint.
            device: `auto` (the first GPU if it works, else the processor), `cpu`, `cuda` or `cuda:N`.
            backend: a fixed one gives the same bytes for the same set on the same machine; `auto` takes the fastest
                at `warm_up`, which may differ from time to time.
            precision: of a GPU; processors always use `single`. `single` is 32-bit floats without TF32, and back ends
                agree with eager to 1e-4. `tf32` allows TF32 and agrees to 5e-3. `half` also lets `auto` take half
                precision where it is faster, which agrees to 1e-2.

        Raises:
            CheckpointError: the checkpoint is missing, damaged, foreign or newer.
            EngineError: an unknown device, or a GPU that was named is missing, does not work or is out of memory.
            BackendError: the back end that was asked for is unknown or not installed, does not run on this device, or
                does not agree with eager.
        """
        loaded = checkpoint.load(checkpoint.default_checkpoint() if path is None else Path(path))
        return cls(loaded, device, backend, precision)

    def modality(self, name: str) -> Modality:
        """Return the modality of that name.

        Raises:
            EngineError: the checkpoint has no such modality.
        """
        for modality in self.modalities:
            if modality.name == name:
                return modality
        raise EngineError(f"expected a modality among {[m.name for m in self.modalities]}, found '{name}'")

    def warm_up(self) -> None:
        """Choose the back end, if it is not fixed, and run every modality in and out, so that no real set is slow.

        Raises:
            EngineError: the GPU is out of memory or does not work.
            BackendError: the back end that is fixed does not agree with eager any more.
        """
        with device_errors(self.device):
            if self._running is None:
                self._running = self._build(self.backend)
            if self._undecided:
                self._choose()
                self._undecided = False
        arrays, _ = trial(self.metadata.model)
        for _ in range(3):
            self.infer(arrays, predict=list(arrays))

    def release(self) -> None:
        """Free the memory of the GPU; nothing can be inferred until `warm_up`. A GPU that is lost is no obstacle."""
        self._running = None
        if self.device.type == "cuda":
            free_gpu_memory()

    def _build(self, name: BackendName) -> Backend:
        """Return a back end that agrees with eager without TF32.

        Raises:
            BackendError: there is no such back end here, or it does not agree.
        """
        if name not in _BUILD:
            raise BackendError(f"backend: expected 'auto' or one of {', '.join(get_args(BackendName))}, found '{name}'")
        tf32 = self._precision == "tf32"
        backend = _BUILD[name](self._model, self.device, tf32)
        if name == "eager":
            return backend
        eager = _eager(self._model, self.device, tf32=False)
        arrays, masks = trial(self._model.configuration)
        # Everything, one modality alone, and nothing: other sets take the same path.
        worst = disagreement(backend, eager, arrays, masks[[0, -2, -1]], trial_memory(self._model.configuration))
        tolerance = HALF_TOLERANCE if name == "cuda_graph_half" else TF32_TOLERANCE if tf32 else TOLERANCE
        if not worst <= tolerance:
            raise BackendError(f"backend: expected '{name}' to agree with eager to {tolerance:g}, found {worst:.2g}")
        return backend

    def _choose(self) -> None:
        found: dict[BackendName, Backend] = {"eager": self._build("eager")}
        for name in candidates(self.device, self._precision):
            try:
                found[name] = self._build(name)
            except BackendError as error:
                _log.warning("%s; doing without", error)
        self.timings = measure(found, self.metadata.model)
        self.backend = min(found, key=lambda name: self.timings[name])
        self._running = found[self.backend]
        compared = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in self.timings.items())
        _log.info("runs with %s (%s a set)", self.backend, compared)

    def infer(
        self,
        arrays: Mapping[str, np.ndarray],
        predict: Collection[str] = (),
        state: State | None = None,
        elapsed: float | None = None,
    ) -> Fusion:
        """Fuse one set.

        Args:
            arrays: by modality, float32 (*shape), model units; any subset. The empty one gives the forecast, or the
                prior where nothing is remembered. An array that carries too little information (`Modality.min_valid`)
                counts as absent.
            predict: modalities to predict, present or not.
            state: `Fusion.state` of the set before; None: nothing is remembered.
            elapsed: seconds since that set; needed with a state. What is older than the horizon of the memory, and what
                lies in the future, is forgotten.

        Raises:
            EngineError: an unknown modality, a wrong shape or type, a released engine, a state of another model, a
                state without a time, or a GPU out of memory.
            DeviceLostError: the GPU stopped working.
        """
        return self.infer_subsets(arrays, [tuple(arrays)], predict, state, elapsed)[0]

    def infer_subsets(
        self,
        arrays: Mapping[str, np.ndarray],
        subsets: Sequence[Collection[str]],
        predict: Collection[str] = (),
        state: State | None = None,
        elapsed: float | None = None,
    ) -> list[Fusion]:
        """Fuse several subsets of the same arrays and of one state, embedding each modality once.

        Each result has the state that follows if its subset was the set. The caller hands on the one that was.

        Raises:
            EngineError: as `infer`, or a subset that names what `arrays` lacks.
            DeviceLostError: the GPU stopped working.
        """
        if self._running is None:
            raise EngineError("the engine is released; call warm_up() first")
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
        if self._memory is None and state is not None:
            raise EngineError("state: expected none, since the checkpoint has no memory; leave it out")
        recalled = self._memory.recall(state, elapsed) if self._memory is not None else None
        if not subsets:
            return []
        names = self._names
        arrays = {name: array for name, array in arrays.items() if self.modality(name).is_valid(array)}
        subsets = [[name for name in subset if name in arrays] for subset in subsets]
        masks = np.array([[name in subset for name in names] for subset in subsets])
        with device_errors(self.device):
            mean, log_variance, attention, predictions, hidden = self._running.run(arrays, masks, predict, recalled)
        fusions = [
            Fusion(
                modalities=tuple(name for name in names if name in subset),
                mean=mean[row],
                log_variance=log_variance[row],
                attention={name: float(attention[row, m]) for m, name in enumerate(names) if name in subset},
                predictions={name: x[row] for name, x in predictions.items()},
            )
            for row, subset in enumerate(subsets)
        ]
        if self._memory is None or recalled is None or hidden is None:
            return fusions
        return [
            replace(
                fusion,
                attention_of_memory=float(attention[row, -1]),
                memory_age=recalled.age,
                state=self._memory.after(recalled, hidden[row], observed=bool(fusion.modalities)),
            )
            for row, fusion in enumerate(fusions)
        ]


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
    return OnnxBackend(model)


def _for(device: torch.device, model: MultimodalVAE) -> MultimodalVAE:
    """Return a model that may be moved to the device: the host keeps its weights, whatever becomes of a GPU."""
    return model if device.type == "cpu" else copy.deepcopy(model)


_BUILD: dict[BackendName, Callable[[MultimodalVAE, torch.device, bool], Backend]] = {
    "eager": _eager,
    "channels_last": _channels_last,
    "onnx": _onnx,
    "cuda_graph": lambda model, device, tf32: CudaGraphBackend(model, device, tf32=tf32),
    "cuda_graph_half": lambda model, device, tf32: CudaGraphBackend(model, device, half=True),
}

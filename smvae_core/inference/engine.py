"""Inference for one set at a time: arrays of the modalities that arrived in, latent and predictions out.

>>> engine = Engine.load(None)
>>> engine.warm_up()                # measures the available back ends and takes the fastest
>>> fusion = engine.infer({"depth": depth, "force": force}, predict=["rgb"])
>>> picture = engine.modality("rgb").to_physical(fusion.predictions["rgb"])

With a checkpoint that has memory, hand the state to the next call, with the seconds between the two sets:

>>> fusion = engine.infer({"force": force}, predict=["rgb"], state=fusion.state, elapsed=0.05)
>>> forecast = engine.infer({}, predict=["rgb"], state=fusion.state, elapsed=0.5)
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from smvae_core import checkpoint
from smvae_core.capture import free_gpu_memory
from smvae_core.device import Device, EngineError, device_errors, torch_device
from smvae_core.inference.backend import Backend, measure, trial
from smvae_core.inference.building import BackendName, Precision, build, build_all
from smvae_core.inference.state import EngineMemory, Recalled, State
from smvae_core.inference.trust import Verdict
from smvae_core.inference.watch import Watch
from smvae_core.modality import Modality

_log = logging.getLogger(__name__)

Arrays = Mapping[str, np.ndarray]


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
        state: what is remembered after this set, for the next call; None for a checkpoint without memory and trust.
        trust: by modality of the set, those left out included, 0 to 1; from 0.5 on distrusted. Empty without trust.
        verdict: everything that trust says of the set; None for a checkpoint without trust.
    """

    modalities: tuple[str, ...]
    mean: np.ndarray
    log_variance: np.ndarray
    attention: dict[str, float]
    predictions: dict[str, np.ndarray]
    attention_of_memory: float = 0.0
    memory_age: float | None = None
    state: State | None = None
    trust: dict[str, float] = field(default_factory=dict)
    verdict: Verdict | None = None


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
        watch: over the sets; None for a checkpoint without trust.
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
        self.watch: Watch | None = None
        if loaded.trust is not None and loaded.metadata.trust is not None:
            # The loaded model stays on the host, whatever the device.
            self.watch = Watch(loaded.model, loaded.trust, loaded.metadata.trust)
        self._forgotten = State(None, np.zeros(0, np.float32), "")
        self.timings: dict[BackendName, float] = {}
        self._names = tuple(modality.name for modality in self.modalities)
        self._model = loaded.model
        self._undecided = backend == "auto"
        self._precision: Precision = precision
        self.backend: BackendName = "eager" if backend == "auto" else backend
        with device_errors(self.device):
            self._running: Backend | None = build(self.backend, self._model, self.device, self._precision)
        self._watching(self.backend)()

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
                agree with eager to 1e-4. `tf32` allows TF32 and agrees to 2e-2. `half` also lets `auto` take half
                precision where it is faster, which agrees to 2e-2.

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

    @property
    def told_timings(self) -> str:
        """The milliseconds of a set by back end, in words."""
        return ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in self.timings.items())

    @property
    def may_compare_later(self) -> bool:
        """Whether sets can be fused while `compare` runs on another thread."""
        return self._undecided and self.device.type == "cpu"

    def warm_up(self, compare: bool = True) -> None:
        """Choose the back end, if it is not fixed, and run every modality in and out, so that no real set is slow.

        Args:
            compare: False: eager runs until the caller has called `compare`, and what it returned.

        Raises:
            EngineError: the GPU is out of memory or does not work.
            BackendError: the back end that is fixed does not agree with eager any more.
        """
        with device_errors(self.device):
            if self._running is None:
                self._running = build(self.backend, self._model, self.device, self._precision)
            if self._undecided and compare:
                self.compare()()
        arrays, _ = trial(self.metadata.model)
        for _ in range(3):
            self.infer(arrays, predict=list(arrays))

    def release(self) -> None:
        """Free the memory of the GPU; nothing can be inferred until `warm_up`. A GPU that is lost is no obstacle."""
        self._running = None
        if self.device.type == "cuda":
            free_gpu_memory()

    def compare(self, stop: Callable[[], bool] = lambda: False) -> Callable[[], None]:
        """Build and measure the back ends; return the step that takes the fastest.

        Where `may_compare_later`, this may run on another thread than `infer`; the step that it returns must not.

        Args:
            stop: asked before each back end is built; once it says so, the rest is left out.
        """
        found = build_all(self._model, self.device, self._precision, stop)
        timings = measure(found, self.metadata.model)
        fastest = min(found, key=lambda name: timings[name])
        watch = self._watching(fastest)

        def take() -> None:
            self.timings, self._undecided = timings, False
            self.backend, self._running = fastest, found[fastest]
            watch()
            _log.info("runs with %s (%s a set)", self.backend, self.told_timings)

        return take

    def _watching(self, name: BackendName) -> Callable[[], None]:
        """Build the networks of trust as a back end runs its own, and return the step that takes them."""
        return self.watch.compiled() if self.watch is not None and name == "onnx" else lambda: None

    def infer(
        self,
        arrays: Arrays,
        predict: Collection[str] = (),
        state: State | None = None,
        elapsed: float | None = None,
        drop: Collection[str] | None = (),
    ) -> Fusion:
        """Fuse one set.

        Args:
            arrays: by modality, float32 (*shape), model units; any subset. The empty one gives the forecast, or the
                prior where nothing is remembered. An array that carries too little information (`Modality.min_valid`)
                counts as absent.
            predict: modalities to predict, present or not.
            state: `Fusion.state` of the set before; None: nothing is remembered.
            elapsed: seconds since that set; needed with a state. Beyond the memory's horizon, or below 0, it forgets.
            drop: modalities that leave the set while they are distrusted. They are judged on. None: nothing is judged,
                which saves the time of trust; it begins anew with the next set that is.

        Raises:
            EngineError: an unknown modality, a wrong shape or type, a released engine, a state of another model, a
                state without a time, or a GPU out of memory.
            DeviceLostError: the GPU stopped working.
        """
        arrays, recalled = self._usable(arrays, predict), self._recalled(state, elapsed)
        if self.watch is None or drop is None:
            return self._run(arrays, [tuple(arrays)], predict, recalled)[0][0]
        before = state.watch if state is not None and state.watch is not None and (elapsed or 0.0) >= 0.0 else None
        out = self.watch.doubted(before) & set(drop)
        kept = [name for name in arrays if name not in out]
        # Modalities that are out are embedded all the same, to be judged.
        subsets = [kept] if len(kept) == len(arrays) else [kept, [*arrays]]
        (fusion, *_), embeddings = self._run(arrays, subsets, predict, recalled)
        watched = self.watch.step(before, arrays, embeddings, recalled, elapsed or 0.0, drop)
        if watched.dropped != out or watched.recalled is not recalled:
            kept = [name for name in arrays if name not in watched.dropped]
            (fusion,), _ = self._run(arrays, [kept], predict, watched.recalled)
        return replace(
            fusion,
            trust=watched.verdict.trust,
            verdict=watched.verdict,
            state=replace(fusion.state or self._forgotten, watch=watched.state),
        )

    def infer_subsets(
        self,
        arrays: Arrays,
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
        if missing := set().union(*subsets) - set(arrays):
            raise EngineError(f"subsets: expected modalities among {sorted(arrays)}, found {sorted(missing)}")
        arrays, recalled = self._usable(arrays, predict), self._recalled(state, elapsed)
        return self._run(arrays, subsets, predict, recalled)[0] if subsets else []

    def _usable(self, arrays: Arrays, predict: Collection[str]) -> dict[str, np.ndarray]:
        """Return the arrays that carry enough to count as present.

        Raises:
            EngineError: as `infer`.
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
        for name in predict:
            self.modality(name)
        return {name: array for name, array in arrays.items() if self.modality(name).is_valid(array)}

    def _recalled(self, state: State | None, elapsed: float | None) -> Recalled | None:
        if self._memory is not None:
            return self._memory.recall(state, elapsed)
        if state is not None and self.watch is None:
            raise EngineError("state: expected none, since the checkpoint has no memory and no trust")
        return None

    def _run(
        self,
        arrays: Arrays,
        subsets: Sequence[Collection[str]],
        predict: Collection[str],
        recalled: Recalled | None,
    ) -> tuple[list[Fusion], np.ndarray]:
        """Fuse subsets of checked arrays; return the results, and the embeddings of what a subset has.

        They are those of `Outputs`.
        """
        assert self._running is not None, "the arrays were checked"
        names = self._names
        subsets = [[name for name in subset if name in arrays] for subset in subsets]
        masks = np.array([[name in subset for name in names] for subset in subsets])
        with device_errors(self.device):
            found = self._running.run(arrays, masks, predict, recalled)
        fusions = [
            Fusion(
                modalities=tuple(name for name in names if name in subset),
                mean=found.mean[row],
                log_variance=found.log_variance[row],
                attention={name: float(found.attention[row, m]) for m, name in enumerate(names) if name in subset},
                predictions={name: x[row] for name, x in found.predictions.items()},
            )
            for row, subset in enumerate(subsets)
        ]
        embeddings = np.asarray(found.embeddings, np.float32)
        if self._memory is None or recalled is None or found.hidden is None:
            return fusions, embeddings
        remembering = [
            replace(
                fusion,
                attention_of_memory=float(found.attention[row, -1]),
                memory_age=recalled.age,
                state=self._memory.after(recalled, found.hidden[row], observed=bool(fusion.modalities)),
            )
            for row, fusion in enumerate(fusions)
        ]
        return remembering, embeddings

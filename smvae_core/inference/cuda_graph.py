"""A model as CUDA graphs. On a GPU one set is about a hundred small kernels; starting them one by one takes longest."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smvae_core.capture import Recorder
from smvae_core.device import arithmetic, first_line
from smvae_core.inference.backend import Arrays, BackendError, Outputs
from smvae_core.inference.folding import folded
from smvae_core.inference.state import Recalled, RecallingFusion, nothing
from smvae_core.model.vae import MultimodalVAE

# Names in the packed buffers beside the modalities, whose names have no dot.
_MASK = "mask."
_POSTERIOR = ("mean.", "log_variance.", "attention.")
_HIDDEN, _PRESENT, _ELAPSED, _NEXT = "hidden.", "present.", "elapsed.", "next."
_EMBEDDINGS = "embeddings."


class CudaGraphBackend:
    """One graph from the arrays of a set to posterior and predictions, for each choice of modalities to predict.

    A graph copies one packed buffer to the device, runs the encoders side by side, the set encoder, and the decoders
    side by side, and copies one packed buffer back: one launch and one wait a set. It serves every set, since absent
    modalities are embedded as zeros and masked. The graphs that predict everything and nothing are recorded at once,
    others when they are first asked for.

    Args:
        model: copied; batch normalisation is folded into the layers before it.
        device: a GPU.
        half: run the networks in half precision.
        tf32: allow TF32.

    Raises:
        BackendError: the model cannot be recorded on this device.
    """

    @torch.inference_mode()
    def __init__(self, model: MultimodalVAE, device: torch.device, half: bool = False, tf32: bool = False) -> None:
        self._model = folded(model).to(device)
        self._dtype = torch.half if half else torch.float
        self._model.to(self._dtype)
        self._device, self._tf32 = device, tf32
        self._graphs: dict[tuple[str, ...], _Graph] = {}
        modalities = model.configuration.modalities
        self._memory = model.configuration.memory
        self._recalling = RecallingFusion(self._model) if self._memory is not None else None
        inputs = {**{m.name: m.shape for m in modalities}, _MASK: (len(modalities),)}
        if self._memory is not None:
            inputs |= {_HIDDEN: (self._memory.size,), _PRESENT: (1,), _ELAPSED: (1,)}
        try:
            self._recorder = Recorder(device)
            self._inputs = _Packed(inputs, device)
            self._graph(model.names)
            self._graph(())
        # A build without CUDA raises the first or the last, a build with CUDA the second where the device is no GPU.
        except (RuntimeError, ValueError, AssertionError) as error:
            raise BackendError(
                f"backend: 'cuda_graph' cannot record the model on {device} ({first_line(error)})"
            ) from error

    @torch.inference_mode()
    def run(
        self, arrays: Arrays, masks: np.ndarray, predict: Collection[str], recalled: Recalled | None = None
    ) -> Outputs:
        """Fuse as `Backend.run` says, one subset after the other."""
        graph = self._graph(tuple(name for name in self._model.names if name in predict))
        if self._memory is not None:
            hidden, age, elapsed = recalled or nothing(self._memory)
            self._inputs.arrays[_HIDDEN][...] = hidden
            self._inputs.arrays[_PRESENT][...] = age is not None
            self._inputs.arrays[_ELAPSED][...] = elapsed
        rows = [self._run(graph, arrays, mask) for mask in masks]
        mean, log_variance, attention = (np.stack([row[key] for row in rows]) for key in _POSTERIOR)
        return Outputs(
            mean,
            log_variance,
            attention,
            {name: np.stack([row[name] for row in rows]) for name in predict},
            None if self._memory is None else np.stack([row[_NEXT] for row in rows]),
            self._embeddings(masks, rows),
        )

    def _embeddings(self, masks: np.ndarray, rows: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
        """Return the embedding of each modality, (M, d), from a subset that has it; zeros where none has."""
        embeddings = np.zeros((masks.shape[1], self._model.width), np.float32)
        for mask, row in zip(masks, rows):
            embeddings[mask] = row[_EMBEDDINGS][mask]
        return embeddings

    def _run(self, graph: "_Graph", arrays: Arrays, mask: np.ndarray) -> dict[str, np.ndarray]:
        for name, present in zip(self._model.names, mask.tolist()):
            # Zeros, since a masked NaN of an earlier set would stay NaN.
            self._inputs.arrays[name][...] = arrays[name] if present else 0.0
        self._inputs.arrays[_MASK][...] = mask
        graph.replay()
        self._recorder.wait()
        return {name: array.copy() for name, array in graph.outputs.arrays.items()}

    def _graph(self, predict: tuple[str, ...]) -> "_Graph":
        if predict not in self._graphs:
            modalities, latent = self._model.modalities, self._model.configuration.latent
            slots = len(modalities) if self._memory is None else len(modalities) + 1
            shapes: dict[str, tuple[int, ...]] = dict(zip(_POSTERIOR, ((latent,), (latent,), (slots,))))
            if self._memory is not None:
                shapes[_NEXT] = (self._memory.size,)
            shapes[_EMBEDDINGS] = (len(modalities), self._model.width)
            outputs = _Packed({**shapes, **{name: modalities[name].shape for name in predict}}, self._device)
            with arithmetic(self._device, self._tf32):
                replay = self._recorder.record(partial(self._fuse, predict, outputs))
            self._graphs[predict] = _Graph(replay, outputs)
        return self._graphs[predict]

    def _fuse(self, predict: tuple[str, ...], outputs: "_Packed") -> None:
        self._inputs.there.copy_(self._inputs.host, non_blocking=True)
        given = self._inputs.views()
        x = {name: given[name][None].to(self._dtype) for name in self._model.names}
        embeddings = self._recorder.parallel([partial(self._model.embeddings[name], x[name]) for name in x])
        sets = torch.stack(embeddings, dim=1), given[_MASK][None] > 0.5
        if self._recalling is None:
            posterior = self._model.fusion(*sets)
        else:
            *posterior, _ = self._recalling(*sets, given[_HIDDEN][None], given[_PRESENT] > 0.5, given[_ELAPSED])
        z = posterior[0].to(self._dtype)
        predictions = self._recorder.parallel([partial(self._predict, z, name) for name in predict])
        values: list[Tensor] = [*posterior, sets[0], *predictions]
        torch.cat([value.flatten().float() for value in values], out=outputs.there)
        outputs.host.copy_(outputs.there, non_blocking=True)

    def _predict(self, z: Tensor, name: str) -> Tensor:
        return self._model.predict(z, [name])[name]


class _Packed:
    """Arrays side by side in one buffer on the device and one, page-locked, on the host, both of which stay in place.

    Attributes:
        there: on the device, (N,).
        host: on the host, (N,).
        arrays: NumPy views of `host`, by name.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]], device: torch.device) -> None:
        self._shapes = shapes
        size = sum(int(np.prod(shape)) for shape in shapes.values())
        self.there = torch.zeros(size, device=device)
        self.host = torch.zeros(size, pin_memory=device.type == "cuda")
        self.arrays = {name: view.numpy() for name, view in self._views(self.host).items()}

    def views(self) -> dict[str, Tensor]:
        """Return views of `there`, by name."""
        return self._views(self.there)

    def _views(self, buffer: Tensor) -> dict[str, Tensor]:
        parts = torch.split(buffer, [int(np.prod(shape)) for shape in self._shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts)}


class _Graph(NamedTuple):
    """A recorded graph, and where its outputs arrive."""

    replay: Callable[[], None]
    outputs: _Packed

"""A model as CUDA graphs. On a GPU one set is a few hundred small kernels; starting them one by one takes longest."""

import copy
from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor

from smvae_core.inference.backend import Arrays, BackendError, Outputs
from smvae_core.model.vae import MultimodalVAE

HALF_TOLERANCE = 1e-2
"""How far the output in half precision may lie from eager's: absolute below 1, relative above."""

_WARM_UPS = 3


class CudaGraphBackend:
    """Graphs captured once and replayed: one from the senses to the posterior, and one for each decoder.

    One graph serves every set, since what is absent is masked. All that enters or leaves has its place on the device and,
    page-locked, on the host: one copy for each present sense, one wait for each set.

    Raises:
        BackendError: the model cannot be captured here.
    """

    @torch.inference_mode()
    def __init__(self, model: MultimodalVAE, device: torch.device, half: bool = False) -> None:
        self._model = copy.deepcopy(model).half() if half else model
        self._dtype = torch.half if half else torch.float
        self._device = device
        modalities = model.configuration.modalities
        latent = (1, model.configuration.latent)
        try:
            self._inputs = {m.name: _Mirror((1, *m.shape), device) for m in modalities}
            self._mask = _Mirror((1, len(modalities)), device, torch.bool)
            self._posterior = (_Mirror(latent, device), _Mirror(latent, device), _Mirror((1, len(modalities)), device))
            self._predictions = {m.name: _Mirror((1, *m.shape), device) for m in modalities}
            self._fuse = _captured(self._fusing, device)
            self._decode = {name: _captured(self._decoding(name), device) for name in model.names}
        # A build of torch without CUDA raises the one, a build with CUDA for a device that is none the other.
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise BackendError(f"backend: 'cuda_graph' cannot capture the model on {device} ({reason})") from error

    @torch.inference_mode()
    def run(self, arrays: Arrays, masks: np.ndarray, predict: Collection[str]) -> Outputs:
        """As `Backend.run`, one subset after the other; what is absent is embedded all the same, and masked."""
        for name, present in zip(self._model.names, np.any(masks, axis=0).tolist()):
            if present:
                self._inputs[name].send(arrays[name])
        rows = [self._run(mask, predict) for mask in masks]
        mean, log_variance, attention = (np.concatenate(parts) for parts in zip(*(row[:3] for row in rows)))
        predictions = {name: np.concatenate([row.predictions[name] for row in rows]) for name in predict}
        return Outputs(mean, log_variance, attention, predictions)

    def _run(self, mask: np.ndarray, predict: Collection[str]) -> Outputs:
        self._mask.send(mask)
        self._fuse()
        for name in predict:
            self._decode[name]()
        leaving = [*self._posterior, *(self._predictions[name] for name in predict)]
        for mirror in leaving:
            mirror.fetch()
        _wait(self._device)
        mean, log_variance, attention, *predictions = (mirror.host.numpy().copy() for mirror in leaving)
        return Outputs(mean, log_variance, attention, dict(zip(predict, predictions)))

    def _fusing(self) -> None:
        batch = {name: mirror.there.to(self._dtype) for name, mirror in self._inputs.items()}
        # On the host: which networks run is decided while the graph is captured, and all of them do.
        embeddings = self._model.embed(batch, torch.ones(1, len(batch), dtype=torch.bool))
        posterior = self._model.fusion(embeddings, self._mask.there)
        for mirror, value in zip(self._posterior, (posterior.mean, posterior.log_variance, posterior.attention)):
            mirror.there.copy_(value)

    def _decoding(self, name: str) -> Callable[[], None]:
        def decode() -> None:
            z = self._posterior[0].there.to(self._dtype)
            self._predictions[name].there.copy_(self._model.predict(z, [name])[name])

        return decode


class _Mirror:
    """A tensor on the device and its twin on the host, which stay where they are."""

    def __init__(self, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype = torch.float) -> None:
        self.there = torch.zeros(shape, dtype=dtype, device=device)
        self.host: Tensor = torch.zeros(shape, dtype=dtype, pin_memory=device.type == "cuda")

    def send(self, array: np.ndarray) -> None:
        self.host.copy_(torch.from_numpy(np.ascontiguousarray(array)))
        self.there.copy_(self.host, non_blocking=True)

    def fetch(self) -> None:
        self.host.copy_(self.there, non_blocking=True)


def _captured(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """What does again what `step` does, all at once."""
    beside = torch.cuda.Stream(device)
    beside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(beside):
        # Libraries choose their algorithms and take their work spaces now; a graph cannot.
        for _ in range(_WARM_UPS):
            step()
    torch.cuda.current_stream(device).wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    # Other threads may go on using the device meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        step()
    return graph.replay


def _wait(device: torch.device) -> None:
    torch.cuda.current_stream(device).synchronize()

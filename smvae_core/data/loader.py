"""Batches of samples on a device.

If the GPU's memory holds all samples, they are kept there and a batch is an index. Otherwise batches are gathered from
the table; for a GPU a thread gathers the next batch while one is used.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from smvae_core.data.samples import Samples, model_units
from smvae_core.model.vae import Batch

# The rest is for activations and weights.
_SHARE_OF_FREE_MEMORY = 0.5
_GATHERED_AT_ONCE = 4096
_T = TypeVar("_T")


class Loader:
    """Source of batches of `samples` on `device`."""

    def __init__(self, samples: Samples, device: torch.device) -> None:
        self.samples, self.device = samples, device
        self.resident = device.type == "cuda" and _bytes(samples) < (
            _SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(device)[0]
        )
        self._available = torch.from_numpy(samples.available).to(device)
        self._stored = _on_device(samples, device) if self.resident else {}

    def batch(self, index: np.ndarray) -> tuple[Batch, Tensor]:
        """Return the samples `index` (float32, model units) and their availability mask (B, M), both on the device."""
        if self.resident:
            rows = torch.from_numpy(index).to(self.device, non_blocking=True)
            stored = {m.name: model_units(m, self._stored[m.name][rows]) for m in self.samples.modalities}
            return stored, self._available[rows]
        batch, available = self.samples.batch(index)
        if self.device.type == "cpu":
            return batch, available
        on_device = {name: x.pin_memory().to(self.device, non_blocking=True) for name, x in batch.items()}
        return on_device, available.pin_memory().to(self.device, non_blocking=True)

    def batches(self, indices: Iterable[np.ndarray]) -> Iterator[tuple[Batch, Tensor]]:
        """Yield one batch for each index. For a GPU the next batch is prepared while one is used."""
        if self.resident or self.device.type == "cpu":
            return map(self.batch, indices)
        return _ahead(self.batch, indices)


def _ahead(make: Callable[[np.ndarray], _T], indices: Iterable[np.ndarray]) -> Iterator[_T]:
    with ThreadPoolExecutor(1) as thread:
        waiting = None
        for index in indices:
            following = thread.submit(make, index)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


def _bytes(samples: Samples) -> int:
    return len(samples) * sum(array[:1].nbytes for array in samples.arrays.values())


def _on_device(samples: Samples, device: torch.device) -> dict[str, Tensor]:
    stored = {}
    for modality in samples.modalities:
        array, rows = samples.arrays[modality.name], samples.rows_of(modality)
        tensor = torch.empty((len(rows), *modality.shape), dtype=torch.from_numpy(array[:0]).dtype, device=device)
        for first in range(0, len(rows), _GATHERED_AT_ONCE):
            part = slice(first, first + _GATHERED_AT_ONCE)
            tensor[part] = torch.from_numpy(array[rows[part]]).to(device)
        stored[modality.name] = tensor
    return stored

"""The networks of trust as graphs of ONNX Runtime: a set is judged in a fraction of the time that PyTorch takes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smvae_core.inference.onnx_runtime import onnx_memory, session, to_onnx
from smvae_core.inference.state import Recalled
from smvae_core.model.memory import Memory, MemoryState, Remembered
from smvae_core.model.trust import Moment, TrustNetwork

_MOMENTS = ("now", "before", "past")


class TrustGraph:
    """A callable that gives what `TrustNetwork.forward` gives, of rows on the processor.

    Args:
        fusion: the posterior network of the model.
        network: of trust.
        example: a set as the network takes it, of one row.

    Raises:
        BackendError: a package is missing, or ONNX cannot express a part of the networks.
    """

    def __init__(self, fusion: nn.Module, network: TrustNetwork, example: Moment) -> None:
        inputs = {f"{moment}_{part}": x for moment in _MOMENTS for part, x in example._asdict().items()}
        self._names = tuple(inputs)
        self._session = session(to_onnx(_Logits(fusion, network), inputs, ["logits"]))
        # The graph has no inputs for what the network does not see.
        self._seen = {one.name for one in self._session.get_inputs()}

    def __call__(self, now: Moment, before: Moment, past: Moment) -> NDArray[np.float64]:
        """Return the logits of the hypotheses, (B, 1 + M)."""
        parts = zip(self._names, (x for moment in (now, before, past) for x in moment))
        inputs = {name: np.ascontiguousarray(x.numpy()) for name, x in parts if name in self._seen}
        logits: NDArray[np.float64] = self._session.run(None, inputs)[0].astype(np.float64)
        return logits


class MemoryGraph:
    """A callable that gives what `Memory.recall` gives, of one state on the processor.

    Raises:
        BackendError: a package is missing, or ONNX cannot express a part of the memory.
    """

    def __init__(self, memory: Memory) -> None:
        inputs = memory.start(1)._asdict() | {"elapsed": torch.zeros(1)}
        self._session = session(to_onnx(_Recall(memory), inputs, ["embedding", "known"]))

    def __call__(self, recalled: Recalled) -> Remembered:
        """Return memory at the moment of a set, as the posterior network takes it: one row."""
        return Remembered(*map(torch.from_numpy, self._session.run(None, onnx_memory(recalled, 1))))


class _Recall(nn.Module):
    """The recall of a memory with tensors as its inputs."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory

    def forward(self, hidden: Tensor, present: Tensor, elapsed: Tensor) -> tuple[Tensor, ...]:
        """Return the embedding (B, d), and whether it counts (B,)."""
        return tuple(self.memory.recall(MemoryState(hidden, present), elapsed))


class _Logits(nn.Module):
    """The network of trust with tensors as its inputs: the parts of one moment after the other."""

    def __init__(self, fusion: nn.Module, network: TrustNetwork) -> None:
        super().__init__()
        self.fusion, self.network = fusion, network

    def forward(self, *parts: Tensor) -> Tensor:
        """Return the logits, (B, 1 + M)."""
        size = len(Moment._fields)
        moments = (Moment(*parts[at : at + size]) for at in range(0, len(parts), size))
        logits: Tensor = self.network(self.fusion, *moments)
        return logits

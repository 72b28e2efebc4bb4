"""Functions recorded as CUDA graphs: the kernels of a call start as one, instead of one by one."""

import gc
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar
from weakref import WeakSet

import torch

from smvae_core.device import first_line

_WARM_UPS = 3
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Recorder:
    """Records functions on one device; their graphs share one stream and one pool of memory.

    A graph points to the memory that was used while it was recorded, and to the work spaces of cuBLAS, of which each
    stream has one. So every function first runs on the very streams that it is recorded on: their work spaces lie
    outside the pool and outlive it. Since all graphs share the pool, only one may run at a time; what a function takes
    and gives must lie in tensors that were made before.

    Raises:
        RuntimeError: torch is built without CUDA, or the device is none of its.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._beside: list[torch.cuda.Stream] = []
        _recorders.add(self)

    def record(self, function: Callable[[], None]) -> Callable[[], None]:
        """Run `function` a few times, record it, and return a callable that starts the recorded graph.

        Raises:
            RuntimeError: the function does what a graph cannot, such as waiting for the device.
        """
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            # Libraries choose their algorithms and take their work spaces now.
            for _ in range(_WARM_UPS):
                function()
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            function()
        return graph.replay

    def parallel(self, branches: Sequence[Callable[[], _T]]) -> list[_T]:
        """Run functions side by side, each on a stream of its own; return their results in order.

        Called inside a function that is recorded, it makes branches of the graph.
        """
        while len(self._beside) < len(branches):
            self._beside.append(torch.cuda.Stream(self._device))
        here, results = torch.cuda.current_stream(self._device), []
        for stream, branch in zip(self._beside, branches):
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                results.append(branch())
        for stream, _ in zip(self._beside, branches):
            here.wait_stream(stream)
        return results

    def wait(self) -> None:
        """Wait until the graphs that were started are done."""
        torch.cuda.current_stream(self._device).synchronize()


def free_gpu_memory() -> None:
    """Give memory that torch keeps without using it back to the GPU; a GPU that fails at that is only logged."""
    gc.collect()
    try:
        clear_work_spaces = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
        # A living graph points to them.
        if clear_work_spaces is not None and not _recorders:
            clear_work_spaces()
        torch.cuda.empty_cache()
    except RuntimeError as error:
        _log.warning("the memory of the GPU cannot be freed (%s)", first_line(error))


_recorders: WeakSet[Recorder] = WeakSet()

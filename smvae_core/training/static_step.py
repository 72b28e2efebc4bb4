"""A whole training step over tensors that stay in place, so that a GPU can record it as one graph.

A step starts hundreds of small kernels, which takes longer than to run them. As a graph they start at once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from smvae_core.capture import Recorder
from smvae_core.data.corruption import Corrupted
from smvae_core.model.vae import Batch
from smvae_core.systems.draws import Draws
from smvae_core.training.objective import Bound

Step = Callable[[Batch, Draws, Tensor, Tensor, Corrupted | None], Bound]
"""Takes a batch, draws, β, the ramp and the corrupted batch, moves the weights, and returns the bound."""


class StaticSteps:
    """Training steps whose inputs lie in buffers: one set of buffers, and one graph, for each size of batch.

    An epoch has batches of two sizes at most. A graph is recorded at the first batch of its size.

    Args:
        step: a step that waits for nothing and whose tensors have shapes that depend on the size of the batch alone.
        kept: returns every tensor that `step` changes in place. Recording runs the step; these are put back after it.
        optimizer: its state, which the first step makes, is put back too.
        recorder: of the device; None runs the step without a graph.
    """

    def __init__(
        self,
        step: Step,
        kept: Callable[[], list[Tensor]],
        optimizer: torch.optim.Optimizer,
        recorder: Recorder | None,
    ) -> None:
        self._step, self._kept, self._optimizer, self._recorder = step, kept, optimizer, recorder
        self._by_size: dict[int, _Buffers] = {}

    def run(self, batch: Batch, draws: Draws, beta: float, ramp: float, corrupted: Corrupted | None) -> Bound:
        """Take one step; the bound that is returned stays as it is when the next one is taken.

        Args:
            batch: every modality, on the device.
            draws: on the processor.
            beta: weight of the KLs now.
            ramp: see `Objective.forward`.
            corrupted: in every step of a run, or in none.
        """
        size = draws.subsets.shape[1]
        if size not in self._by_size:
            self._by_size[size] = self._prepared(batch, draws, corrupted)
        buffers = self._by_size[size]
        buffers.fill(batch, draws, beta, ramp, corrupted)
        buffers.start()
        assert buffers.bound is not None, "starting fills it"
        loss, kl, rows, scored = (x.detach().clone() for x in buffers.bound[:4])
        return Bound(loss, kl, rows, scored)

    def _prepared(self, batch: Batch, draws: Draws, corrupted: Corrupted | None) -> "_Buffers":
        buffers = _Buffers(batch, draws, corrupted, self._step)
        if self._recorder is not None:
            buffers.fill(batch, draws, 1.0, 1.0, corrupted)
            with self._put_back():
                buffers.start = self._recorder.record(buffers.start)
        return buffers

    @contextmanager
    def _put_back(self) -> Iterator[None]:
        """Undo, in place, what happens inside to the tensors of the run and to the state of the optimiser."""
        before = [(x, x.detach().clone()) for x in self._kept()]
        known = {id(x): x.clone() for state in self._optimizer.state.values() for x in state.values()}
        try:
            yield
        finally:
            with torch.no_grad():
                for x, value in before:
                    x.copy_(value)
                for state in self._optimizer.state.values():
                    for x in state.values():
                        x.copy_(known[id(x)]) if id(x) in known else x.zero_()


class _Buffers:
    """The inputs of a step for batches of one size, and its result."""

    def __init__(self, batch: Batch, draws: Draws, corrupted: Corrupted | None, step: Step) -> None:
        device = next(iter(batch.values())).device
        self.bound: Bound | None = None
        self._batch = {name: torch.zeros_like(x) for name, x in batch.items()}
        self._corrupted: Corrupted | None = None
        if corrupted is not None:
            changed = torch.zeros(corrupted.changed.shape, dtype=torch.bool, device=device)
            self._corrupted = Corrupted({name: torch.zeros_like(x) for name, x in batch.items()}, changed)
        # `explains` and `clean` depend on the system alone, and only the processor reads them.
        subsets, targets, noise = (torch.zeros(x.shape, dtype=x.dtype, device=device) for x in _tensors(draws))
        self._draws = replace(draws, subsets=subsets, targets=targets, noise=noise)
        self._beta, self._ramp = torch.zeros((), device=device), torch.zeros((), device=device)
        self._step = step
        self.start: Callable[[], None] = self._run

    def fill(self, batch: Batch, draws: Draws, beta: float, ramp: float, corrupted: Corrupted | None) -> None:
        """Copy the inputs of the next step to their places, without waiting."""
        pairs = [(place, batch[name]) for name, place in self._batch.items()]
        pairs += zip(_tensors(self._draws), _tensors(draws))
        if self._corrupted is not None and corrupted is not None:
            pairs += [(place, corrupted.batch[name]) for name, place in self._corrupted.batch.items()]
            pairs.append((self._corrupted.changed, corrupted.changed))
        for place, x in pairs:
            # Page-locked, so that the copy does not wait; torch keeps the memory until it is done.
            place.copy_(x.pin_memory() if place.is_cuda and not x.is_cuda else x, non_blocking=True)
        self._beta.fill_(beta)
        self._ramp.fill_(ramp)

    def _run(self) -> None:
        self.bound = self._step(self._batch, self._draws, self._beta, self._ramp, self._corrupted)


def _tensors(draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    return draws.subsets, draws.targets, draws.noise

"""A whole training step over tensors that stay in place, so that a GPU can record it as one graph.

A step starts hundreds of small kernels, which takes longer than to run them. As a graph they start at once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from smvae_core.capture import Recorder
from smvae_core.data.corruption import Corrupted
from smvae_core.model.memory import MemoryState
from smvae_core.model.vae import Batch
from smvae_core.systems.draws import Draws
from smvae_core.systems.posterior import Posterior
from smvae_core.training.lanes import Window
from smvae_core.training.lessons import Lesson
from smvae_core.training.objective import Bound


class Inputs(NamedTuple):
    """The arguments of a step, as `Objective.forward` takes them.

    Attributes:
        draws: their `explains` and `clean` depend on the system alone, and only the processor reads them.
    """

    batch: Batch
    draws: Draws
    beta: float | Tensor
    ramp: float | Tensor
    corrupted: Corrupted | None = None
    window: Window | None = None
    lesson: Lesson | None = None


Step = Callable[[Inputs], Bound]
"""Moves the weights, and returns the bound."""


class StaticSteps:
    """Training steps whose inputs lie in buffers: one set of buffers, and one graph, for each kind and size of batch.

    An epoch has batches of two sizes at most. A graph is recorded at the first batch of its size.

    Args:
        step: a step that waits for nothing and whose tensors have shapes that depend on those of its inputs alone.
        kept: returns every tensor that `step` changes in place. Recording runs the step; these are put back after it.
        optimizer: its state, which the first step makes, is put back too.
        device: where the buffers lie.
        recorder: of the device; None runs the step without a graph.
    """

    def __init__(
        self,
        step: Step,
        kept: Callable[[], list[Tensor]],
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        recorder: Recorder | None,
    ) -> None:
        self._step, self._kept, self._optimizer, self._device, self._recorder = step, kept, optimizer, device, recorder
        self._by_shapes: dict[tuple[torch.Size, ...], _Buffers] = {}

    def run(self, inputs: Inputs) -> Bound:
        """Take one step; the bound that is returned stays as it is when the next one is taken.

        Args:
            inputs: the draws on the processor, with all rows of a batch; everything else on the device.
        """
        tensors = _tensors(inputs)
        shapes = tuple(x.shape for x in tensors)
        if shapes not in self._by_shapes:
            self._by_shapes[shapes] = self._prepared(inputs)
        buffers = self._by_shapes[shapes]
        buffers.fill(tensors)
        buffers.start()
        assert buffers.bound is not None, "starting fills it"
        loss, kl, rows, scored = (x.detach().clone() for x in buffers.bound[:4])
        state = buffers.bound.state
        return Bound(loss, kl, rows, scored, None if state is None else MemoryState(*(x.clone() for x in state)))

    def _prepared(self, inputs: Inputs) -> "_Buffers":
        buffers = _Buffers(inputs, self._device, self._step)
        if self._recorder is not None:
            buffers.fill(_tensors(inputs))
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
    """The inputs of a step for batches of one kind and size, and its result."""

    def __init__(self, inputs: Inputs, device: torch.device, step: Step) -> None:
        self.bound: Bound | None = None
        self._inputs = _mapped(inputs, lambda x: torch.zeros(x.shape, dtype=x.dtype, device=device))
        self._places = _tensors(self._inputs)
        self._step = step
        self.start: Callable[[], None] = self._run

    def fill(self, tensors: list[Tensor]) -> None:
        """Copy the tensors of the next step's inputs to their places, without waiting."""
        for place, x in zip(self._places, tensors):
            if not x.dim():
                place.fill_(x.item())
            else:
                # Page-locked, so that the copy does not wait; torch keeps the memory until it is done.
                place.copy_(x.pin_memory() if place.is_cuda and not x.is_cuda else x, non_blocking=True)

    def _run(self) -> None:
        self.bound = self._step(self._inputs)


def _tensors(inputs: Inputs) -> list[Tensor]:
    """Return all tensors of the inputs, in an order of their own."""
    found: list[Tensor] = []

    def take(x: Tensor) -> Tensor:
        found.append(x)
        return x

    _mapped(inputs, take)
    return found


def _mapped(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """Return the inputs with another tensor in place of each, numbers as tensors too."""

    def whole(batch: Batch) -> Batch:
        return {name: change(x) for name, x in batch.items()}

    draws, corrupted, window, lesson = inputs.draws, inputs.corrupted, inputs.window, inputs.lesson
    subsets, targets, noise = (change(x) for x in (draws.subsets, draws.targets, draws.noise))
    if corrupted is not None:
        corrupted = Corrupted(whole(corrupted.batch), change(corrupted.changed))
    if window is not None:
        elapsed, given, remembered = (change(x) for x in (window.elapsed, window.given, window.remembered))
        when, since = (change(x) for x in window.earlier)
        window = Window(MemoryState(*map(change, window.state)), elapsed, given, remembered, (when, since))
    if lesson is not None:
        lesson = Lesson(change(lesson.clean), change(lesson.seen), Posterior(*map(change, lesson.target)))
    beta, ramp = (change(torch.as_tensor(x, dtype=torch.float32)) for x in (inputs.beta, inputs.ramp))
    draws = replace(draws, subsets=subsets, targets=targets, noise=noise)
    return Inputs(whole(inputs.batch), draws, beta, ramp, corrupted, window, lesson)

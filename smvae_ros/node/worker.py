"""The one thread that owns the engine. A few sets may wait for it, so that those that leave together are all fused."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from smvae_core.errors import SMVAEError
from smvae_ros.synchronizer.set_synchronizer import SampleSet

if TYPE_CHECKING:  # torch takes seconds to import; a node that waits to be configured does without
    from smvae_core.inference.engine import Engine, Fusion


TOGETHER = 4
"""Sets that leave together: two when a sensor falls silent, and one for each period of a camera that the machine
slept."""


class WorkerError(SMVAEError):
    """An engine that was given up while it was loaded."""


@dataclass(frozen=True)
class Result:
    """What became of one set.

    Attributes:
        sample_set: as the synchroniser emitted it.
        fusion: latent, and the predictions that were asked for; None if every sample was rejected.
        rejected: by modality, why its samples could not be used.
        waited_ns: for the worker.
        conversion_ns: messages to arrays.
        inference_ns: arrays to latent and predictions.
    """

    sample_set: SampleSet
    fusion: Fusion | None
    rejected: dict[str, str]
    waited_ns: int
    conversion_ns: int
    inference_ns: int


class FusionWorker:
    """Loads the engine, warms it up and runs it, all on one thread: a model is never used by two.

    Where a sensor falls silent or the machine stood still, a few sets leave together; all are run, the oldest first.
    Where the network is slower than the sets, the newest wins: once so many were run without a pause as may leave
    together, only one may wait until none does.

    Args:
        load: builds the engine.
        convert: the arrays of a set, as `smvae_ros.conversions.arrays.set_arrays`.
        wanted: modalities to predict from the next set, or None if nobody listens and the set need not be run.
        publish: takes each result.
        fail: takes an exception of engine or `publish`; the worker goes on with the next set.

    All five are called on the worker's thread.
    """

    def __init__(
        self,
        load: Callable[[], Engine],
        convert: Callable[[SampleSet], tuple[dict[str, np.ndarray], dict[str, str]]],
        wanted: Callable[[], Collection[str] | None],
        publish: Callable[[Result], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._load, self._convert = load, convert
        self._wanted, self._publish, self._fail = wanted, publish, fail
        self._waiting: deque[tuple[SampleSet, int, int]] = deque()
        self._without_pause = 0
        self._generation = 0
        self._stopping = False
        self._changed = threading.Condition()
        self._engine: Future[Engine] = Future()
        self._thread = threading.Thread(target=self._run, name="fusion_worker")
        self._thread.start()

    def engine(self) -> Engine:
        """Wait until the engine is loaded and warm.

        Raises:
            WorkerError: `cancel` came first.
            Exception: whatever `load` raised.
        """
        return self._engine.result()

    def submit(self, sample_set: SampleSet) -> int:
        """Let a set wait its turn; returns how many it overtook that waited already, which are not run."""
        overtaken = 0
        with self._changed:
            places = TOGETHER if self._without_pause < TOGETHER else 1
            while len(self._waiting) >= places:
                self._waiting.popleft()
                overtaken += 1
            self._waiting.append((sample_set, self._generation, perf_counter_ns()))
            self._changed.notify()
        return overtaken

    def forget(self) -> None:
        """Drop the sets that wait; the result of the one that runs is never published."""
        with self._changed:
            self._generation += 1
            self._waiting.clear()

    def cancel(self) -> None:
        """Run no more sets; an engine that is not loaded yet is not warmed up."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def stop(self) -> None:
        """Let the set that runs finish, drop those that wait, and join the thread."""
        self.cancel()
        self._thread.join()

    def _run(self) -> None:
        try:
            engine = self._load()
            if self._stopping:
                raise WorkerError("the engine was loaded, but is not wanted any more")
            engine.warm_up()
        except Exception as error:
            self._engine.set_exception(error)
            return
        self._engine.set_result(engine)
        while (taken := self._take()) is not None:
            try:
                self._process(engine, *taken)
            except Exception as error:
                self._fail(error)

    def _take(self) -> tuple[SampleSet, int, int] | None:
        with self._changed:
            if not self._waiting:
                self._without_pause = 0
            self._changed.wait_for(lambda: self._stopping or self._waiting)
            if self._stopping:
                return None
            self._without_pause += 1
            return self._waiting.popleft()

    def _process(self, engine: Engine, sample_set: SampleSet, generation: int, submitted_ns: int) -> None:
        wanted = self._wanted()
        if wanted is None:
            return
        start = perf_counter_ns()
        arrays, rejected = self._convert(sample_set)
        converted = perf_counter_ns()
        fusion = engine.infer(arrays, wanted) if arrays else None
        inferred = perf_counter_ns()
        result = Result(sample_set, fusion, rejected, start - submitted_ns, converted - start, inferred - converted)
        if generation == self._generation:
            self._publish(result)

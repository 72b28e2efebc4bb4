"""The worker: the one thread that converts the messages of a set, runs the engine and publishes the result."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from math import nan
from time import monotonic, perf_counter_ns, thread_time
from typing import TYPE_CHECKING, Any, TypeVar

from smvae_core.device import DeviceLostError
from smvae_core.errors import SMVAEError
from smvae_ros.conversions.arrays import frame_ids, reasons_against, set_arrays
from smvae_ros.conversions.bindings import Binding
from smvae_ros.distrust import Distrust
from smvae_ros.node.backend_comparison import BackendComparison
from smvae_ros.node.repeated_warnings import RepeatedWarnings
from smvae_ros.node.set_memory import SetMemory
from smvae_ros.node.set_queue import SetQueue, Waiting
from smvae_ros.node.statistics import Statistics
from smvae_ros.synchronizer.sample_set import SampleSet

if TYPE_CHECKING:  # torch takes seconds to import; a node that waits to be configured does without
    import numpy as np

    from smvae_core.inference.engine import Engine, Fusion
    from smvae_ros.node.cameras import Cameras
    from smvae_ros.node.publications import Publications

T = TypeVar("T")

# No set takes so long: its stamps are of another clock.
_MOST_LATENCY_S = 60.0


class WorkerError(SMVAEError):
    """A step that the worker was asked for and did not do, because it was stopped."""


@dataclass(frozen=True)
class Activity:
    """Everything that the worker needs while the node is active.

    Attributes:
        statistics: counts each set.
        warnings: of messages and outputs that fail.
        cameras: the calibrations of the image modalities.
        topics: by modality, the topic that brings it, for warnings.
        now_ns: the node's clock.
        memory: from set to set.
        distrust: of modalities that contradict the others.
        say: takes a sentence for the log.
    """

    statistics: Statistics
    warnings: RepeatedWarnings
    cameras: Cameras
    topics: Mapping[str, str]
    now_ns: Callable[[], int]
    memory: SetMemory
    distrust: Distrust
    say: Callable[[str], None]


class FusionWorker:
    """A thread that owns the engine, the bindings and the publications, from configuration to clean-up.

    Sets that leave the synchroniser together are all run, the oldest first. Where the network is slower than the sets,
    the newest wins.

    Attributes:
        bindings: of the checkpoint's modalities; set by `prepare`.
        died: why the thread ended although nobody stopped it; empty if it did not.
    """

    def __init__(self) -> None:
        self.bindings: tuple[Binding, ...] = ()
        self._prepared: tuple[Binding, ...] = ()
        self.died = ""
        self._publications: Publications | None = None
        self._engine: Engine | None = None
        self._activity: Activity | None = None
        self._waiting = SetQueue()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._frames: dict[str, str] = {}
        self._generation = 0
        self._released = self._stopping = False
        self._changed = threading.Condition()
        self._comparison: BackendComparison | None = None
        self._thread = threading.Thread(target=self._run, name="fusion_worker")
        self._thread.start()

    @property
    def engine(self) -> Engine:
        """The loaded engine.

        Raises:
            WorkerError: none is loaded.
        """
        if self._engine is None:
            raise WorkerError("expected a loaded engine, found none")
        return self._engine

    @property
    def device(self) -> str:
        """The device of the engine; empty before it is loaded."""
        return str(self._engine.device) if self._engine is not None else ""

    @property
    def publications(self) -> Publications:
        """The publications of the checkpoint's modalities.

        Raises:
            WorkerError: `prepare` was not called.
        """
        if self._publications is None:
            raise WorkerError("expected publications, found none")
        return self._publications

    def load(self, load: Callable[[], Engine], chosen: Callable[[Engine], None] = lambda _: None) -> Engine:
        """Load and warm up the engine on the worker's thread, and wait for it.

        Where sets can be fused meanwhile, the back ends are compared later, on a thread of their own.

        Args:
            load: returns the engine.
            chosen: called once the fastest back end is taken.

        Raises:
            WorkerError: `cancel` came first.
            Exception: whatever `load` raised.
        """

        def step() -> Engine:
            engine = load()
            if self._stopping:
                raise WorkerError("the engine was loaded, but the node is about to end")
            engine.warm_up(compare=not engine.may_compare_later)
            return engine

        self._engine = engine = self._call(step)
        if engine.may_compare_later:
            self._comparison = BackendComparison(engine, self._call, chosen)
        return engine

    def prepare(self, bindings: tuple[Binding, ...], publications: Publications) -> None:
        """Take over what turns messages into arrays, and results into messages."""
        self.bindings, self._publications = bindings, publications
        self._prepared = bindings

    def learn(self, binding: Binding) -> None:
        """Take a binding in place of the one of the same modality; may be called from another thread."""
        name = binding.modality.name
        self.bindings = tuple(binding if one.modality.name == name else one for one in self.bindings)
        self.publications.learn(binding)

    def begin(self, activity: Activity) -> None:
        """Run the sets that are submitted from now on; an engine that `pause` released is warmed up first."""
        if self._released:
            self._call(self.engine.warm_up)
            self._released = False
        self._frames = {}
        self._activity = activity

    def submit(self, sample_set: SampleSet) -> int:
        """Let a set wait its turn; return how many older ones it overtook, which are not run."""
        with self._changed:
            overtaken = self._waiting.put(sample_set, perf_counter_ns())
            self._changed.notify()
        return overtaken

    def forget(self, reason: str) -> None:
        """Drop the sets that wait, and memory; the result of the set that is being run is not published."""
        with self._changed:
            self._generation += 1
            self._waiting.clear()
        if self._activity is not None:
            self._activity.memory.forget(reason)
            self._activity.distrust.forget()

    def pause(self) -> None:
        """Let the set that is being run finish, drop those that wait, and free the memory of a GPU."""
        with self._changed:
            self._waiting.clear()
        # A processor's memory is not worth the time that loading it again would take.
        self._released = self.engine.device.type == "cuda"
        with suppress(WorkerError):
            self._call(self.engine.release if self._released else lambda: None)
        if self._activity is not None:
            self._activity.memory.forget("the node was deactivated")
        self._activity = None
        # The next activation learns joints anew.
        for binding in self._prepared:
            if binding not in self.bindings:
                self.learn(binding)

    def cancel(self) -> None:
        """Run no more sets; an engine that is not loaded yet is not warmed up. Does not wait."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._comparison is not None:
            self._comparison.cancel()

    def stop(self) -> None:
        """Let the set that is being run finish, drop those that wait, join the thread, and take the publishers away."""
        self.cancel()
        self._thread.join()
        if self._comparison is not None:
            self._comparison.join()
        if self._publications is not None:
            self._publications.destroy()

    def _call(self, step: Callable[[], T]) -> T:
        """Run `step` on the worker's thread, after the set that is being run and before those that wait."""
        future: Future[T] = Future()
        with self._changed:
            if self._stopping or self.died:
                raise WorkerError("expected a running worker, found one that was stopped")
            self._calls.append((step, future))
            self._changed.notify()
        return future.result()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            with self._changed:
                self.died = f"the worker's thread ended: {type(error).__name__}: {error}"
                for _, future in self._calls:
                    future.set_exception(WorkerError(self.died))
            raise

    def _work(self) -> None:
        while True:
            with self._changed:
                self._waiting.pause()
                self._changed.wait_for(lambda: self._stopping or self._calls or self._waiting)
                if self._calls:
                    work = self._answer(*self._calls.popleft())
                elif self._stopping:
                    return
                else:
                    work = self._step(self._waiting.take(), self._generation)
            work()

    def _answer(self, step: Callable[[], T], future: Future[T]) -> Callable[[], None]:
        def call() -> None:
            try:
                future.set_result(step())
            except BaseException as error:
                future.set_exception(error)
                if not isinstance(error, Exception):
                    raise

        return call

    def _step(self, waiting: Waiting, generation: int) -> Callable[[], None]:
        return lambda: self._process(waiting.sample_set, waiting.submitted_ns, generation)

    def _process(self, sample_set: SampleSet, submitted_ns: int, generation: int) -> None:
        activity = self._activity
        if activity is None:
            return
        try:
            self._fuse(sample_set, submitted_ns, generation, activity)
        except DeviceLostError:  # no later set could be fused either: the process must be started again
            raise
        except Exception as error:  # one set that fails must not take the later ones along
            activity.statistics.failures += 1
            reason = str(error) if isinstance(error, SMVAEError) else f"{type(error).__name__}: {error}"
            activity.warnings.warn("engine", f"a set could not be fused: {reason}")

    def _fuse(self, sample_set: SampleSet, submitted_ns: int, generation: int, activity: Activity) -> None:
        statistics = activity.statistics
        wanted = self.publications.wanted()
        if wanted is None:
            statistics.unheard += 1
            return
        start_ns, processor_s = perf_counter_ns(), thread_time()
        arrays, rejected = set_arrays(self.bindings, sample_set, check=False)
        converted_ns = perf_counter_ns()
        fusion = self._infer(arrays, wanted, sample_set, activity)
        inferred_ns = perf_counter_ns()
        rejected |= reasons_against(self.bindings, arrays, _used(fusion) if fusion is not None else (), sample_set)
        if generation != self._generation:
            return
        for name, reason in rejected.items():
            statistics.reject(name, reason)
            activity.warnings.warn(name, f"{activity.topics[name]}: {reason}")
        if fusion is None:
            return
        begin_s = monotonic()
        self._frames |= frame_ids(self.bindings, sample_set)
        distrusted = activity.distrust.distrusted
        failures = self.publications.publish(sample_set, fusion, self._frames, activity.cameras, distrusted)
        for topic, reason in failures.items():
            statistics.fail(topic, reason)
            activity.warnings.warn(topic, f"{topic} is not published: {reason}")
        newest_ns = sample_set.stamp_ns - min(sample_set.ages_ns.values())
        statistics.published += 1
        if self._comparison is not None:
            self._comparison.begin()
        statistics.decoded.update(fusion.predictions.keys())
        latency_s = max(0.0, (activity.now_ns() - newest_ns) / 1e9)
        if latency_s > _MOST_LATENCY_S:
            latency_s = nan
        # Time may have jumped while the set was published. A set that makes up for a silence was late by intention.
        if generation != self._generation or sample_set.made_up:
            return
        statistics.add_times(
            {
                "latency": latency_s,
                "wait": (sample_set.emitted_ns - sample_set.opened_ns + start_ns - submitted_ns) / 1e9,
                "conversion": (converted_ns - start_ns) / 1e9,
                "inference": (inferred_ns - converted_ns) / 1e9,
                "publication": monotonic() - begin_s,
                "processor": thread_time() - processor_s,
            }
        )

    def _infer(
        self, arrays: Mapping[str, np.ndarray], wanted: Collection[str], sample_set: SampleSet, activity: Activity
    ) -> Fusion | None:
        """Fuse a set with memory; None if no usable and trusted modality is left and nothing is remembered."""
        memory = activity.memory
        recollection = memory.recall(sample_set)
        state = recollection.state
        remembers = state is not None and state.age is not None
        if not arrays and not remembers:
            return None
        distrust = activity.distrust
        drop = distrust.names("drop") if distrust.judges else None
        fusion = self.engine.infer(arrays, wanted, state, recollection.elapsed, drop)
        if not remembers and not _used(fusion):
            return None
        if memory.keep(sample_set, fusion.state, recollection) and fusion.verdict is not None:
            for sentence in distrust.see(fusion.verdict, sample_set.stamp_ns):
                activity.say(sentence)
        return fusion if fusion.modalities or fusion.memory_age is not None else None


def _used(fusion: Fusion) -> set[str]:
    """Return the modalities that carried enough to be in the set, those that were left out for distrust included."""
    return {*fusion.modalities, *fusion.trust}

"""What waits for the worker and what is overtaken, with an engine that waits until it is told to go on."""

import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from queue import Queue

import numpy as np
import pytest

from smvae_core.modality import vision_touch_modalities
from smvae_ros.conversions.arrays import set_arrays
from smvae_ros.conversions.bindings import bind
from smvae_ros.node.worker import FusionWorker, Result
from smvae_ros.synchronizer.set_synchronizer import Sample, SampleSet

PATIENCE_S = 60.0


@dataclass
class SlowEngine:
    """Stands in for the engine: tells when it begins a set, and ends it when `go` is released."""

    modalities: tuple = vision_touch_modalities()
    begun: Queue = field(default_factory=Queue)
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    threads: set[int] = field(default_factory=set)
    error: Exception | None = None

    def warm_up(self) -> None:
        self.threads.add(threading.get_ident())

    def infer(self, arrays: dict[str, np.ndarray], predict: Collection[str]) -> tuple[str, ...]:
        self.threads.add(threading.get_ident())
        self.begun.put(float(arrays["action"][0]))
        assert self.go.acquire(timeout=PATIENCE_S)
        if self.error is not None:
            raise self.error
        return tuple(predict)


class Command:
    """A TwistStamped by its fields."""

    def __init__(self, x: float) -> None:
        self.twist = self.linear = self.angular = self
        self.x, self.y, self.z = x, 0.0, 0.0


def command_set(x: float) -> SampleSet:
    """A set of one command."""
    return SampleSet(1, 0, {"action": (Sample(1, Command(x)),)}, "complete", 1, 1)


def convert(sample_set: SampleSet) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a set, its messages being the usual ones."""
    return set_arrays(bind(vision_touch_modalities(), {}), sample_set)


@dataclass
class Worker:
    """A worker, its engine and what came out of it."""

    engine: SlowEngine = field(default_factory=SlowEngine)
    wanted: set[str] | None = field(default_factory=set)
    results: Queue = field(default_factory=Queue)
    failures: Queue = field(default_factory=Queue)

    def __post_init__(self) -> None:
        self.worker = FusionWorker(
            lambda: self.engine, convert, lambda: self.wanted, self.results.put, self.failures.put
        )
        assert self.worker.engine() is self.engine

    def result(self) -> float:
        """The command of the set whose result comes next."""
        result: Result = self.results.get(timeout=PATIENCE_S)
        return result.sample_set.samples["action"][0].data.x

    def submit_and_begin(self, x: float) -> None:
        """Submit a set and wait until the engine works on it."""
        assert not self.worker.submit(command_set(x))
        assert self.engine.begun.get(timeout=PATIENCE_S) == pytest.approx(x)


@pytest.fixture
def bench() -> Iterator[Worker]:
    """A running worker."""
    bench = Worker()
    yield bench
    for _ in range(10):
        bench.engine.go.release()
    bench.worker.stop()


def test_four_sets_that_leave_together_are_all_run_in_order(bench: Worker) -> None:
    bench.submit_and_begin(1.0)
    assert [bench.worker.submit(command_set(x)) for x in (2.0, 3.0, 4.0, 5.0)] == [0, 0, 0, 0]
    bench.engine.go.release(5)
    assert [bench.result() for _ in range(5)] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_of_five_that_leave_together_the_oldest_is_overtaken_and_told(bench: Worker) -> None:
    bench.submit_and_begin(1.0)
    assert [bench.worker.submit(command_set(x)) for x in (2.0, 3.0, 4.0, 5.0, 6.0)] == [0, 0, 0, 0, 1]
    bench.engine.go.release(5)
    assert [bench.result() for _ in range(5)] == [1.0, 3.0, 4.0, 5.0, 6.0]


def test_a_network_slower_than_the_sets_runs_the_newest_and_never_falls_behind(bench: Worker) -> None:
    bench.submit_and_begin(0.0)
    run, overtaken = [], 0
    for x in np.arange(1.0, 41.0, 2.0):
        # Two sets arrive while one is run.
        overtaken += bench.worker.submit(command_set(x)) + bench.worker.submit(command_set(x + 1.0))
        bench.engine.go.release()
        run.append(bench.engine.begun.get(timeout=PATIENCE_S))
    # After the first few, which may have left together, always the newest.
    assert run[:3] == [1.0, 2.0, 3.0]
    assert run[3:] == list(np.arange(8.0, 41.0, 2.0))
    assert overtaken == 40 - len(run)


def test_once_the_worker_has_waited_for_a_set_a_few_may_wait_again(bench: Worker) -> None:
    def submit_together() -> int:
        bench.submit_and_begin(1.0)
        overtaken = sum(bench.worker.submit(command_set(x)) for x in (2.0, 3.0, 4.0, 5.0))
        bench.engine.go.release(5 - overtaken)
        assert [bench.result() for _ in range(5 - overtaken)][-1] == 5.0
        while not bench.engine.begun.empty():
            bench.engine.begun.get()
        return overtaken

    assert not submit_together()
    # It publishes a result before it looks for the next set, so the next few may come a little too early.
    assert any(not submit_together() for _ in range(1000))


def test_all_that_the_engine_does_happens_on_one_thread_that_is_not_the_callers(bench: Worker) -> None:
    bench.engine.go.release(2)
    bench.submit_and_begin(1.0)
    bench.submit_and_begin(2.0)
    assert [bench.result(), bench.result()] == [1.0, 2.0]
    assert len(bench.engine.threads) == 1
    assert threading.get_ident() not in bench.engine.threads


def test_what_is_under_way_when_time_jumps_is_never_published(bench: Worker) -> None:
    bench.submit_and_begin(1.0)
    bench.worker.submit(command_set(2.0))
    bench.worker.forget()
    assert not bench.worker.submit(command_set(3.0)), "none waits any more"
    bench.engine.go.release(2)
    assert bench.result() == 3.0


def test_an_engine_that_fails_once_is_told_of_and_goes_on(bench: Worker) -> None:
    bench.engine.error = RuntimeError("out of memory")
    bench.submit_and_begin(1.0)
    bench.engine.go.release()
    assert bench.failures.get(timeout=PATIENCE_S) is bench.engine.error
    bench.engine.error = None
    bench.submit_and_begin(2.0)
    bench.engine.go.release()
    assert bench.result() == 2.0


def test_nothing_is_computed_while_nobody_listens(bench: Worker) -> None:
    bench.wanted = None
    bench.worker.submit(command_set(1.0))
    bench.worker.stop()
    assert bench.engine.begun.empty() and bench.results.empty()


def test_a_set_of_nothing_but_bad_messages_reaches_the_publisher_without_a_fusion(bench: Worker) -> None:
    bench.worker.submit(command_set(float("nan")))
    result: Result = bench.results.get(timeout=PATIENCE_S)
    assert result.fusion is None
    assert "finite" in result.rejected["action"]
    assert bench.engine.begun.empty()


def test_an_engine_that_cannot_be_loaded_is_the_callers_to_hear_of() -> None:
    def load() -> SlowEngine:
        raise OSError("no such file")

    worker = FusionWorker(load, convert, set, print, print)
    with pytest.raises(OSError, match="no such file"):
        worker.engine()
    worker.stop()

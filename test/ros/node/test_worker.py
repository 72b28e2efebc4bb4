"""The worker's queue and its thread, with an engine that waits until it is told to go on."""

import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from queue import Queue

import numpy as np
import pytest
import torch
from std_msgs.msg import Header

from smvae_core.inference.engine import Engine, Fusion
from smvae_core.inference.state import State
from smvae_core.modality import vision_touch_modalities
from smvae_ros.conversions.bindings import bind
from smvae_ros.distrust import Distrust
from smvae_ros.node.repeated_warnings import RepeatedWarnings
from smvae_ros.node.set_memory import SetMemory
from smvae_ros.node.statistics import Statistics
from smvae_ros.node.worker import Activity, FusionWorker, WorkerError
from smvae_ros.synchronizer.sample_set import Sample, SampleSet

PATIENCE_S = 60.0


@dataclass
class SlowEngine:
    """Stands in for the engine: tells when it begins a set, and ends it when `go` is released."""

    device: torch.device = torch.device("cpu")
    begun: Queue = field(default_factory=Queue)
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    threads: set[int] = field(default_factory=set)
    error: Exception | None = None
    recalled: list[tuple[float | None, float | None]] = field(default_factory=list)
    may_compare_later: bool = False
    compared: Queue = field(default_factory=Queue)
    take: Callable[[], None] = lambda: None

    def warm_up(self, compare: bool = True) -> None:
        assert compare is not self.may_compare_later
        self.threads.add(threading.get_ident())

    def compare(self, stop: Callable[[], bool]) -> Callable[[], None]:
        self.compared.put(threading.get_ident())
        return self.take

    def infer(
        self,
        arrays: dict[str, np.ndarray],
        predict: Collection[str],
        state: State | None,
        elapsed: float | None,
        drop: Collection[str],
    ) -> Fusion:
        self.threads.add(threading.get_ident())
        self.recalled.append((state.age if state is not None else None, elapsed))
        self.begun.put(float(arrays["action"][0]))
        assert self.go.acquire(timeout=PATIENCE_S)
        if self.error is not None:
            raise self.error
        return Fusion(tuple(arrays), np.zeros(1), np.zeros(1), {}, {}, state=State(0.0, np.zeros(1), ""))


class Command:
    """A TwistStamped by its fields."""

    def __init__(self, x: float) -> None:
        self.twist = self.linear = self.angular = self
        self.x, self.y, self.z = x, 0.0, 0.0
        self.header = Header(frame_id="tool")


def command_set(x: float, stamp_ns: int = 1, epoch: int = 0) -> SampleSet:
    """Return a set of one command."""
    return SampleSet(stamp_ns, epoch, {"action": (Sample(stamp_ns, Command(x)),)}, "complete", 1, 1)


@dataclass
class Outputs:
    """Stands in for the publications: keeps what it is asked to publish."""

    heard: set[str] | None = field(default_factory=set)
    results: Queue = field(default_factory=Queue)
    asked: Queue = field(default_factory=Queue)
    failures: dict[str, str] = field(default_factory=dict)

    def wanted(self) -> set[str] | None:
        self.asked.put(True)
        return self.heard

    def publish(
        self, sample_set: SampleSet, fusion: Fusion, frames: dict[str, str], cameras: dict, distrusted: tuple[str, ...]
    ) -> dict[str, str]:
        self.results.put((sample_set, dict(frames)))
        return self.failures

    def destroy(self) -> None:
        pass


class Bench:
    """A worker with an engine and outputs that the test controls."""

    def __init__(self, engine: SlowEngine | None = None, chosen: Callable[[SlowEngine], None] = lambda _: None) -> None:
        self.engine, self.outputs = engine or SlowEngine(), Outputs()
        self.lines: Queue = Queue()
        self.said: list[str] = []
        self.now_ns = 0
        self.statistics = Statistics()
        self.worker = FusionWorker()
        assert self.worker.load(lambda: self.engine, chosen) is self.engine
        self.worker.prepare(bind(vision_touch_modalities(), {}), self.outputs)
        self.begin()

    def begin(self) -> None:
        """Begin an activity."""
        warnings = RepeatedWarnings(self.lines.put)
        self.memory = SetMemory(10.0, lambda: self.now_ns, self.said.append)
        topics = {"action": "/action"}
        self.worker.begin(Activity(self.statistics, warnings, {}, topics, lambda: 1, self.memory, Distrust({}), print))

    def result(self) -> float:
        """Return the command of the set that is published next."""
        sample_set, _ = self.outputs.results.get(timeout=PATIENCE_S)
        return sample_set.samples["action"][0].data.x

    def submit_and_begin(self, x: float, stamp_ns: int = 1, epoch: int = 0) -> None:
        """Submit a set and wait until the engine works on it."""
        assert not self.worker.submit(command_set(x, stamp_ns, epoch))
        assert self.engine.begun.get(timeout=PATIENCE_S) == pytest.approx(x)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A running worker."""
    bench = Bench()
    yield bench
    bench.engine.go.release(10)
    bench.worker.stop()


def test_four_sets_that_leave_together_are_all_run_in_order(bench: Bench) -> None:
    bench.submit_and_begin(1.0)
    assert [bench.worker.submit(command_set(x)) for x in (2.0, 3.0, 4.0, 5.0)] == [0, 0, 0, 0]
    bench.engine.go.release(5)
    assert [bench.result() for _ in range(5)] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_of_five_that_leave_together_the_oldest_is_overtaken_and_told(bench: Bench) -> None:
    bench.submit_and_begin(1.0)
    assert [bench.worker.submit(command_set(x)) for x in (2.0, 3.0, 4.0, 5.0, 6.0)] == [0, 0, 0, 0, 1]
    bench.engine.go.release(5)
    assert [bench.result() for _ in range(5)] == [1.0, 3.0, 4.0, 5.0, 6.0]


def test_a_network_slower_than_the_sets_runs_the_newest_and_never_falls_behind(bench: Bench) -> None:
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


def test_once_the_worker_has_waited_for_a_set_a_few_may_wait_again(bench: Bench) -> None:
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


def test_all_that_the_engine_does_happens_on_one_thread_that_is_not_the_callers(bench: Bench) -> None:
    bench.engine.go.release(2)
    bench.submit_and_begin(1.0)
    bench.submit_and_begin(2.0)
    assert [bench.result(), bench.result()] == [1.0, 2.0]
    assert len(bench.engine.threads) == 1
    assert threading.get_ident() not in bench.engine.threads


def test_a_set_that_is_under_way_when_time_jumps_is_never_published(bench: Bench) -> None:
    bench.submit_and_begin(1.0)
    bench.worker.submit(command_set(2.0))
    bench.worker.forget("time went back")
    assert not bench.worker.submit(command_set(3.0)), "none waits any more"
    bench.engine.go.release(2)
    assert bench.result() == 3.0


def test_memory_goes_from_set_to_set_with_the_time_between_their_stamps(bench: Bench) -> None:
    bench.engine.go.release(3)
    for stamp_ns in (1, 50_000_001, 9_000_000_000):
        bench.submit_and_begin(1.0, stamp_ns)
        bench.result()
    assert bench.engine.recalled == [(None, None), (0.0, 0.05), (0.0, pytest.approx(8.95))]
    assert not bench.said and bench.memory.forgotten == 0


@pytest.mark.parametrize(
    ("stamp_ns", "epoch", "reason"),
    [
        (11_000_000_000, 0, "no modality was fused for 11.0 s, and the checkpoint remembers 10 s"),
        (50_000_000, 1, "time went back"),
    ],
)
def test_a_long_gap_and_another_epoch_forget_which_is_said_once(
    bench: Bench, stamp_ns: int, epoch: int, reason: str
) -> None:
    bench.engine.go.release(3)
    for set_ in ((1, 0), (stamp_ns, epoch), (stamp_ns + 1_000_000_000, epoch)):
        bench.submit_and_begin(1.0, *set_)
        bench.result()
    assert bench.engine.recalled == [(None, None), (None, None), (0.0, 1.0)]
    assert bench.said == [f"memory forgotten: {reason}"] and bench.memory.forgotten == 1


def test_memory_lapses_by_the_clock_while_no_set_comes(bench: Bench) -> None:
    bench.engine.go.release(1)
    bench.submit_and_begin(1.0)
    bench.result()
    bench.now_ns = 10_000_000_000
    bench.memory.lapse()
    assert bench.memory.age == 10.0 and not bench.said
    bench.now_ns = 60_000_000_000
    for _ in range(3):
        bench.memory.lapse()
    assert bench.memory.age is None
    assert bench.said == ["memory forgotten: no modality was fused for 60.0 s, and the checkpoint remembers 10 s"]


def test_what_is_under_way_when_memory_is_forgotten_is_not_remembered(bench: Bench) -> None:
    bench.engine.go.release(1)
    bench.submit_and_begin(1.0)
    bench.result()
    bench.submit_and_begin(2.0, 2)
    bench.worker.forget("~/reset was called")
    bench.engine.go.release(2)
    bench.submit_and_begin(3.0, 3, epoch=1)
    assert bench.result() == 3.0
    assert bench.engine.recalled[-1] == (None, None)
    assert bench.said == ["memory forgotten: ~/reset was called"]


def test_deactivation_forgets(bench: Bench) -> None:
    bench.engine.go.release(1)
    bench.submit_and_begin(1.0)
    bench.result()
    bench.worker.pause()
    assert bench.said == ["memory forgotten: the node was deactivated"]


def test_a_set_that_fails_is_counted_and_named_and_the_next_one_is_run(bench: Bench) -> None:
    bench.engine.error = RuntimeError("out of memory")
    bench.submit_and_begin(1.0)
    bench.engine.go.release()
    assert "RuntimeError: out of memory" in bench.lines.get(timeout=PATIENCE_S)
    bench.engine.error = None
    bench.submit_and_begin(2.0)
    bench.engine.go.release()
    assert bench.result() == 2.0
    assert bench.statistics.failures == 1


def test_an_output_that_fails_is_counted_and_named_and_the_set_counts_as_published(bench: Bench) -> None:
    bench.outputs.failures = {"/points": "no camera"}
    bench.submit_and_begin(1.0)
    bench.engine.go.release()
    assert bench.lines.get(timeout=PATIENCE_S) == "/points is not published: no camera"
    bench.worker.pause()
    assert bench.statistics.unpublished == {"/points": 1}
    assert (bench.statistics.published, bench.statistics.failures) == (1, 0)


def test_nothing_is_computed_while_nobody_listens(bench: Bench) -> None:
    bench.outputs.heard = None
    bench.worker.submit(command_set(1.0))
    bench.outputs.asked.get(timeout=PATIENCE_S)
    bench.worker.pause()
    assert bench.statistics.unheard == 1
    assert bench.engine.begun.empty() and bench.outputs.results.empty()


def test_a_set_of_nothing_but_bad_messages_is_counted_and_named_and_not_run(bench: Bench) -> None:
    bench.worker.submit(command_set(float("nan")))
    line = bench.lines.get(timeout=PATIENCE_S)
    assert line.startswith("/action: ") and "finite" in line
    assert bench.statistics.take_rejected() == {"action": 1}
    assert bench.outputs.results.empty() and bench.engine.begun.empty()


def test_a_prediction_gets_the_frame_that_its_sensor_last_gave(bench: Bench) -> None:
    bench.engine.go.release()
    bench.worker.submit(command_set(1.0))
    _, frames = bench.outputs.results.get(timeout=PATIENCE_S)
    assert frames == {"action": "tool"}


def test_a_pause_drops_the_sets_that_wait_and_a_new_beginning_runs_new_ones(bench: Bench) -> None:
    bench.submit_and_begin(1.0)
    bench.worker.submit(command_set(2.0))
    bench.engine.go.release()
    bench.worker.pause()
    assert bench.result() == 1.0
    bench.begin()
    bench.submit_and_begin(4.0)
    bench.engine.go.release()
    assert bench.result() == 4.0
    assert bench.outputs.results.empty()


def test_an_engine_that_cannot_be_loaded_raises_at_the_caller() -> None:
    def load() -> Engine:
        raise OSError("no such file")

    worker = FusionWorker()
    with pytest.raises(OSError, match="no such file"):
        worker.load(load)
    worker.stop()


def test_an_engine_that_is_loaded_while_the_node_ends_is_not_warmed_up() -> None:
    worker, engine = FusionWorker(), SlowEngine()

    def load() -> SlowEngine:
        worker.cancel()
        return engine

    with pytest.raises(WorkerError, match="about to end"):
        worker.load(load)
    assert not engine.threads
    worker.stop()

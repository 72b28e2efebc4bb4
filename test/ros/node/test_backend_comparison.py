"""Back ends are compared once the first latent is out, on a thread of their own, and the worker takes the fastest."""

import threading
from queue import Queue

import pytest

from .test_worker import PATIENCE_S, Bench, SlowEngine


def test_back_ends_are_compared_after_the_first_latent_and_the_worker_takes_the_fastest() -> None:
    taken: Queue = Queue()
    engine = SlowEngine(may_compare_later=True, take=lambda: taken.put(threading.get_ident()))
    bench = Bench(engine, lambda chosen: taken.put(chosen))
    assert engine.compared.empty()
    bench.submit_and_begin(1.0)
    engine.go.release()
    bench.result()
    comparing, taking = engine.compared.get(timeout=PATIENCE_S), taken.get(timeout=PATIENCE_S)
    assert taken.get(timeout=PATIENCE_S) is engine
    assert engine.threads == {taking}
    assert comparing not in (taking, threading.get_ident())
    bench.worker.stop()


def test_a_worker_that_is_stopped_before_the_first_latent_compares_nothing() -> None:
    engine = SlowEngine(may_compare_later=True)
    Bench(engine).worker.stop()
    assert engine.compared.empty()


def test_a_comparison_that_fails_leaves_the_engine_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    tried = threading.Event()

    def take() -> None:
        tried.set()
        raise RuntimeError("no memory")

    bench = Bench(SlowEngine(may_compare_later=True, take=take))
    bench.engine.go.release(2)
    bench.submit_and_begin(1.0)
    bench.result()
    bench.submit_and_begin(2.0)
    assert bench.result() == 2.0
    assert tried.wait(PATIENCE_S)
    bench.worker.stop()
    assert "could not be compared: RuntimeError: no memory" in caplog.text

"""Signals that arrive at any place: everything that was acquired is given back, and KeyboardInterrupt comes once."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from smvae_core import interrupts
from smvae_core.files import write_atomically
from smvae_core.interrupts import ending_once, interruptible, uninterrupted

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise KeyboardInterrupt, as in a command; afterwards they do what they did before."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    yield
    found = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert set(found.values()) == {signal.default_int_handler}, "what handled signals before does so again"


def arriving(at: int, act: Callable[[], Any]) -> bool:
    """Call `act`; a signal arrives before its bytecode number `at`.

    Bytecodes of this file and of the module under test count, in whatever functions. Returns whether one arrived.
    """
    files, count = {__file__, interrupts.__file__}, 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = frame.f_code.co_filename in files
        if event == "opcode":
            count += 1
            if count == at:
                signal.raise_signal(SIGNALS[count % 2])
        return trace

    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(None)
    return count >= at


class Thing:
    """Something that must be given back once it was acquired."""

    def __init__(self) -> None:
        self.held = 0

    @contextmanager
    def use(self) -> Iterator[None]:
        with uninterrupted():
            self.held += 1
            try:
                with interruptible():
                    yield
            finally:
                self.held -= 1


@pytest.mark.parametrize("nested", [False, True], ids=["one", "nested"])
def test_wherever_a_signal_arrives_everything_is_given_back(nested: bool) -> None:
    outer, inner = Thing(), Thing()
    interrupted = []

    def work() -> None:
        with outer.use():
            if nested:
                with inner.use():
                    pass

    at = 0
    while True:
        at += 1
        try:
            arrived = arriving(at, work)
        except KeyboardInterrupt:
            arrived = True
            interrupted.append(at)
        assert (outer.held, inner.held) == (0, 0), f"bytecode {at}"
        assert interrupts._held is None
        if not arrived:
            break
    # A signal is never lost.
    assert interrupted == list(range(1, at))


def test_further_signals_do_not_disturb_the_clean_up() -> None:
    steps: list[str] = []

    def work() -> None:
        with uninterrupted():
            try:
                with interruptible():
                    signal.raise_signal(signal.SIGTERM)
                    steps.append("not reached")
            finally:
                signal.raise_signal(signal.SIGINT)
                steps.append("clean")
                with interruptible():
                    signal.raise_signal(signal.SIGTERM)
                steps.append("whole")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["clean", "whole"]


def test_a_signal_waits_until_a_part_that_it_may_interrupt() -> None:
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGTERM)
        steps.append("acquired")
        with interruptible():
            steps.append("not reached")
    assert steps == ["acquired"]


def test_a_signal_in_a_block_without_such_a_part_waits_until_its_end() -> None:
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            steps.append("whole")
        steps.append("not reached")
    assert steps == ["whole"]


def test_inside_a_part_that_may_be_interrupted_an_inner_block_holds_signals_back() -> None:
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt), uninterrupted(), interruptible():
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            steps.append("whole")
        steps.append("not reached")
    assert steps == ["whole"]


def test_other_threads_hold_nothing_back() -> None:
    done: list[str] = []

    def work() -> None:
        with uninterrupted(), interruptible():
            done.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["done"]


def test_a_command_ends_once_however_many_signals_come() -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    with pytest.raises(KeyboardInterrupt), ending_once():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_sigterm_that_comes_while_a_file_is_written_ends_the_process_once_it_is_whole(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from smvae_core import files
real = os.fsync
def fsync(number):
    signal.raise_signal(signal.SIGTERM)
    real(number)
os.fsync = fsync
files.write_atomically(Path({str(tmp_path / "file")!r}), b"whole")
print("not reached", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_ctrl_c_while_a_file_is_written_leaves_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda number: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

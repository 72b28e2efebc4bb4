"""Interrupts that leave nothing behind: SIGINT and SIGTERM wait while something is acquired or given back.

>>> with uninterrupted():
...     process = start()
...     try:
...         with interruptible():
...             watch(process)
...     finally:
...         process.end()

An exception of a signal handler may arise anywhere: between `start()` and `try`, inside a thread's `start`, or in the
midst of a clean-up. Inside `uninterrupted` it arises in `interruptible` parts only, and once at most.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM)


class _Held:
    """The signals that wait.

    Attributes:
        open: whether a signal raises KeyboardInterrupt where it arrives.
        came: the first signal that waits.
        over: whether KeyboardInterrupt was raised: what follows is the clean-up.
    """

    def __init__(self) -> None:
        self.open = self.over = False
        self.came: int | None = None

    def handle(self, number: int, frame: object) -> None:
        if self.open:
            self.interrupt()
        elif self.came is None:
            self.came = number

    def interrupt(self) -> None:
        self.open, self.over, self.came = False, True, None
        raise KeyboardInterrupt


# One for the process, as signal handlers are.
_held: _Held | None = None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the block has ended, or until an `interruptible` part of it.

    After the outermost block, what was there before handles a signal that still waits. In threads other than the main
    one, where no signal interrupts, this does nothing.

    Raises:
        KeyboardInterrupt: a signal came in the block, and a block around it is interruptible.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
    elif _held is None:
        yield from _outermost()
    else:
        held, opened = _held, _held.open
        held.open = False
        try:
            yield
        finally:
            if opened and not held.over:
                held.open = True
                if held.came is not None:
                    held.interrupt()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt in this part of an `uninterrupted` block, also one that waits.

    Raises:
        KeyboardInterrupt: a signal came; later ones wait until the end of the `uninterrupted` block.
    """
    held = _held
    if held is None or held.over or threading.current_thread() is not threading.main_thread():
        yield
        return
    opened = held.open
    try:
        held.open = True
        if held.came is not None:
            held.interrupt()
        yield
    finally:
        held.open = opened and not held.over


@contextmanager
def ending_once() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM raise KeyboardInterrupt in a whole command.

    Later ones are ignored until the process has ended, so that the end which has begun comes to its end.

    Raises:
        KeyboardInterrupt: a signal came.
    """
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    with uninterrupted(), interruptible():
        yield


def _outermost() -> Iterator[None]:
    global _held
    held = _Held()
    before: dict[int, Any] = {number: signal.getsignal(number) for number in ENDING}
    try:
        for number in ENDING:
            signal.signal(number, held.handle)
        _held = held
        yield
    finally:
        _held = None
        _restore(before)
        # One that came after KeyboardInterrupt was raised is the same wish once more.
        if held.came is not None and not held.over:
            signal.raise_signal(held.came)


def _restore(before: dict[int, Any]) -> None:
    """Put handlers back, all of them even if one that is back raises meanwhile."""
    raised: BaseException | None = None
    while before:
        try:
            for number, handler in list(before.items()):
                # None stands for a handler that Python did not set, and cannot set again.
                signal.signal(number, handler or signal.SIG_DFL)
                del before[number]
        except BaseException as error:
            raised = error
    if raised is not None:
        raise raised

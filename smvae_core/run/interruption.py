"""Ctrl-C and SIGTERM as a wish that is looked at between two steps, so that what is saved is a whole step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether somebody wants the run to stop."""

    def __init__(self) -> None:
        self.wanted = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True


@contextmanager
def interruption() -> Iterator[Interruption]:
    """Inside, the first signal is noted; a second one interrupts at once."""
    found = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    previous = {number: signal.signal(number, found._handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield found
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

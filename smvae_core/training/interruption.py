"""Ctrl-C and SIGTERM as a wish that is looked at between two steps, so that what is saved is a whole step."""

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether somebody wants the run to stop.

    Args:
        noted: signals that interrupt nothing yet.
    """

    def __init__(self, noted: float = 1) -> None:
        self._noted, self._came = noted, 0

    @property
    def wanted(self) -> bool:
        """Whether a signal came."""
        return self._came > 0

    def at_once(self) -> None:
        """From here on nothing is lost by stopping anywhere: a signal interrupts at once, and so does one that came.

        Raises:
            KeyboardInterrupt: one came already.
        """
        self._noted = 0
        if self.wanted:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._came += 1
        if self._came > self._noted:
            raise KeyboardInterrupt


@contextmanager
def interruption(processes: int = 1) -> Iterator[Interruption]:
    """Inside, the first signal is noted; a second one interrupts at once.

    Args:
        processes: that train together. With several no signal interrupts at once: torchrun hands on each Ctrl-C that the
            terminal has sent to its processes already, so that one comes twice; it kills who does not end in time.
    """
    found = Interruption(1 if processes == 1 else math.inf)
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    previous = {number: signal.signal(number, found._handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield found
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

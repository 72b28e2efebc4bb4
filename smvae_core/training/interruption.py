"""Ctrl-C and SIGTERM as a request that is looked at between two steps, so that what is saved is a whole step."""

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether a signal asked the run to stop.

    Args:
        noted: how many signals are only noted; the next one raises KeyboardInterrupt where it arrives.
    """

    def __init__(self, noted: float = 1) -> None:
        self._noted, self._came = noted, 0

    @property
    def wanted(self) -> bool:
        """Whether a signal came."""
        return self._came > 0

    def at_once(self) -> None:
        """Interrupt at the next signal, or now if one came already. Called where stopping loses nothing.

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
    """Note the first SIGINT or SIGTERM inside; a second one interrupts where it arrives.

    Args:
        processes: that train together. With several, no signal interrupts where it arrives: the terminal sends each
            Ctrl-C to every process, and torchrun sends it on once more. A process that does not end in time is killed
            by torchrun.
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

"""Warnings about a fault that goes on: logged at once, then at growing intervals."""

from __future__ import annotations

import re
from collections.abc import Callable
from time import monotonic

_FIRST_PAUSE_S = 5.0


class RepeatedWarnings:
    """A log that thins out repetitions, separately for each subject. May be used from several threads.

    Args:
        log: writes one line.
    """

    def __init__(self, log: Callable[[str], object]) -> None:
        self._log = log
        self._intervals: dict[str, GrowingInterval] = {}

    def warn(self, subject: str, text: str) -> None:
        """Log `text`, unless the same was logged of `subject` a short while ago."""
        if self._intervals.setdefault(subject, GrowingInterval()).due(text, monotonic()):
            self._log(text)


class GrowingInterval:
    """The interval between two equal warnings; it doubles, so a fault that lasts a weekend gives some fifteen lines."""

    def __init__(self) -> None:
        self._text = ""
        self._pause_s = 0.0
        self._logged_s = -_FIRST_PAUSE_S

    def due(self, text: str, now_s: float) -> bool:
        """Return whether to log `text` at `now_s`, a steady time.

        Texts that differ in their numbers alone count as equal. Another text starts again with the first interval.
        """
        text = re.sub(r"\d+", "#", text)
        same = text == self._text
        # Two faults in turn are not logged more often than one.
        if now_s < self._logged_s + (self._pause_s if same else _FIRST_PAUSE_S):
            return False
        self._pause_s = 2.0 * self._pause_s if same else _FIRST_PAUSE_S
        self._text, self._logged_s = text, now_s
        return True

"""How often a warning that goes on and on is logged."""

from __future__ import annotations

import re

_FIRST_PAUSE_S = 5.0


class Repetition:
    """Ever rarer while it is the same: a weekend of one fault is some fifteen lines. Another text starts over."""

    def __init__(self) -> None:
        self._text = ""
        self._pause_s = 0.0
        self._logged_s = -_FIRST_PAUSE_S

    def due(self, text: str, now_s: float) -> bool:
        """Whether to log it now; `now_s` is steady. Texts are the same if they differ in their numbers alone."""
        text = re.sub(r"\d+", "#", text)
        same = text == self._text
        # Two faults in turn are not logged more often than one.
        if now_s < self._logged_s + (self._pause_s if same else _FIRST_PAUSE_S):
            return False
        self._pause_s = 2.0 * self._pause_s if same else _FIRST_PAUSE_S
        self._text, self._logged_s = text, now_s
        return True

"""Two publishers on one topic, seen by their messages, for bags that do not tell how many publishers there were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smvae_ros.conversions.arrays import Numbers
from smvae_ros.conversions.bindings import Binding

# Behind the encapsulation and the stamp of a message that begins with a header: the length of the frame, the frame.
_FRAME, _NAME = 12, 16
_STRETCH = 64
_LEAST = 16
_ALIKE = 0.2
"""A message is like the last but one if it differs from it by less than this part of its difference from the last."""


class Turns:
    """Looks whether messages of one topic come from two publishers in turn.

    Two publishers show in one of two ways. Each message is like the last but one and not like the last: in its frame,
    in its numbers, or in that it can be used. Or stamps run back between messages all the time, since the two have
    other clocks or delays; messages of one publisher arrive in their order.
    """

    def __init__(self) -> None:
        self._rows: tuple[Sequence[float] | None, Sequence[float] | None] = ((), ())
        self._frames = (b"", b"")
        self._stamp_ns = 0
        self._messages = self._alike = self._back = 0
        self._taking_turns = self._running_back = 0

    def add(self, stamp_ns: int, row: Sequence[float] | None, frame: bytes = b"") -> None:
        """Add a message, in the order of the bag.

        Args:
            stamp_ns: 0 for a message without a stamp.
            row: its numbers; the number of bytes of a picture; None for a message that cannot be used.
            frame: of its header.
        """
        before, last = self._rows
        self._messages += 1
        self._alike += (self._frames[0] == frame != self._frames[1]) or _is_turn(before, last, row)
        self._back += 0 < stamp_ns < self._stamp_ns
        self._rows, self._frames, self._stamp_ns = (last, row), (self._frames[1], frame), stamp_ns
        if self._messages == _STRETCH:
            taking_turns, running_back = self._verdict()
            self._taking_turns += taking_turns
            self._running_back += running_back
            self._messages = self._alike = self._back = 0

    @property
    def reason(self) -> str:
        """Why the messages look like those of two publishers; empty if they do not."""
        last = self._verdict() if self._messages >= _LEAST else (False, False)
        if self._taking_turns + last[0]:
            return "each message is like the last but one, not like the last"
        if self._running_back + last[1]:
            return "stamps run back again and again"
        return ""

    def _verdict(self) -> tuple[bool, bool]:
        return self._alike > self._messages / 2, self._back > self._messages / 4


def look(turns: Turns, binding: Binding, stamp_ns: int, message: bytes, sample: Any) -> None:
    """Add a message that can be used, with its sample (see `SampleReader`)."""
    frame = b""
    if binding.has_header:
        length = int.from_bytes(message[_FRAME:_NAME], "little" if message[1] == 1 else "big")
        frame = message[_NAME : _NAME + length]
    turns.add(stamp_ns, sample.row if isinstance(sample, Numbers) else (len(message),), frame)


def in_turn(topic: str, reason: str) -> str:
    """Return the sentence on a topic whose messages look like those of two publishers."""
    return f"messages on {topic} look like those of two publishers in turn: {reason}"


def _is_turn(before: Sequence[float] | None, last: Sequence[float] | None, row: Sequence[float] | None) -> bool:
    if row is None or last is None or before is None:
        return (row is None) == (before is None) != (last is None)
    if not len(row) == len(last) == len(before):
        return len(row) == len(before)
    step = max((abs(a - b) for a, b in zip(row, last)), default=0.0)
    return max((abs(a - b) for a, b in zip(row, before)), default=0.0) < _ALIKE * step

"""Two publishers on one topic, seen by their messages, for bags that do not tell how many publishers there were."""

from __future__ import annotations

from collections import deque
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
_STEADY = 0.75
"""From this part of the messages on, numbers move steadily. Noise moves on in one direction a third of the time."""

Row = Sequence[float] | None


class Turns:
    """Looks whether messages of one topic come from two publishers in turn.

    Numbers that take turns do not show it: a signal with two states, or a lamp that blinks before a camera, does that
    as well. Two publishers show in one of these ways, most of the time:

    - frames take turns;
    - numbers (the size of a picture, or whether a message can be used) and times take turns: messages come at uneven
      times, a short time after one publisher's and a long time after the other's. A publisher alone is even;
    - numbers take turns, and those of both publishers move steadily. The numbers of one publisher that take turns by
      themselves are states, noise around states, or a vibration, which moves in opposite directions;
    - stamps run back, since the two have other clocks or delays. Messages of one publisher arrive in their order.
    """

    def __init__(self) -> None:
        self._rows: deque[Row] = deque([()] * 4, maxlen=4)
        self._intervals = (0, 0)
        self._frames = (b"", b"")
        self._receive_ns = self._stamp_ns = 0
        self._begin()
        self._taking_turns = self._running_back = False

    def add(
        self, receive_ns: int, stamp_ns: int, row: Row, frame: bytes | None = None, is_picture: bool = False
    ) -> None:
        """Add a message, in the order of the bag.

        Args:
            stamp_ns: 0 for a message without a stamp.
            row: its numbers; the number of bytes of a picture; None for a message that cannot be used.
            frame: of its header; None where it is not known.
        """
        frame = self._frames[1] if frame is None else frame
        interval, (before, last) = receive_ns - self._receive_ns, self._intervals
        self._messages += 1
        self._framed += self._frames[0] == frame != self._frames[1]
        self._back += 0 < stamp_ns < self._stamp_ns
        if _is_turn(self._rows[-2], self._rows[-1], row):
            self._uneven += abs(interval - before) < _ALIKE * abs(interval - last)
            self._moving += not is_picture and _moves([*self._rows, row])
        self._rows.append(row)
        self._intervals = (last, interval)
        self._frames, self._receive_ns, self._stamp_ns = (self._frames[1], frame), receive_ns, stamp_ns
        if self._messages == _STRETCH:
            taking_turns, running_back = self._verdict()
            self._taking_turns |= taking_turns
            self._running_back |= running_back
            self._begin()

    @property
    def reason(self) -> str:
        """Why the messages look like those of two publishers; empty if they do not."""
        last = self._verdict() if self._messages >= _LEAST else (False, False)
        if self._taking_turns or last[0]:
            return "each message is like the last but one, not like the last"
        if self._running_back or last[1]:
            return "stamps run back again and again"
        return ""

    def _verdict(self) -> tuple[bool, bool]:
        half = self._messages / 2
        taking_turns = self._framed > half or self._uneven > half or self._moving > _STEADY * self._messages
        return taking_turns, self._back > self._messages / 4

    def _begin(self) -> None:
        """Begin a stretch."""
        self._messages = self._framed = self._uneven = self._moving = self._back = 0


def look(turns: Turns, binding: Binding, receive_ns: int, stamp_ns: int, message: bytes, sample: Any) -> None:
    """Add a message that can be used, with its sample (see `SampleReader`)."""
    frame = b""
    if binding.has_header:
        length = int.from_bytes(message[_FRAME:_NAME], "little" if message[1] == 1 else "big")
        frame = message[_NAME : _NAME + length]
    is_picture = not isinstance(sample, Numbers)
    turns.add(receive_ns, stamp_ns, (len(message),) if is_picture else sample.row, frame, is_picture)


def in_turn(topic: str, reason: str) -> str:
    """Return the sentence on a topic whose messages look like those of two publishers."""
    return f"messages on {topic} look like those of two publishers in turn: {reason}"


def _is_turn(before: Row, last: Row, row: Row) -> bool:
    if row is None or last is None or before is None:
        return (row is None) == (before is None) != (last is None)
    if not len(row) == len(last) == len(before):
        return len(row) == len(before)
    step = max((abs(a - b) for a, b in zip(row, last)), default=0.0)
    return max((abs(a - b) for a, b in zip(row, before)), default=0.0) < _ALIKE * step


def _moves(newest: Sequence[Row]) -> bool:
    """Return whether the fifth row goes on as the third did, and the fourth did not just the opposite."""
    rows = [row for row in newest if row is not None]
    if len(rows) < len(newest) or len({len(row) for row in rows}) > 1:
        return False
    own = [a - b for a, b in zip(rows[4], rows[2])]
    other = [a - b for a, b in zip(rows[3], rows[1])]
    goes_on = sum(step * (b - c) for step, b, c in zip(own, rows[2], rows[0])) > 0
    return goes_on and max(abs(a + b) for a, b in zip(own, other)) >= max(map(abs, own)) / 2

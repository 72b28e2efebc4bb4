"""Two publishers on one topic, seen by their messages, for bags that do not tell how many publishers there were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from smvae_ros.conversions.arrays import Numbers
from smvae_ros.conversions.bindings import Binding

Row = Sequence[float] | None
"""The numbers of a message; the number of bytes of a picture; None for a message that cannot be used."""

# Behind the encapsulation and the stamp of a message that begins with a header: the length of the frame, the frame.
_FRAME, _NAME = 12, 16
# So many messages are judged together; fewer at the end of the bag, but not fewer than the least.
_STRETCH, _LEAST = 64, 16
# Each message is compared with so many before it.
_BEFORE = 4
# Two values are alike if they differ by less than this part of the difference between the other two.
_ALIKE = 0.2
# The share of the messages in a stretch that shows a sign, from which on it counts.
_SHARES = {"frames": 1 / 2, "times": 1 / 2, "motion": 3 / 4, "stamps": 1 / 4}
_IN_TURN = "each message is like the last but one, not like the last"
_BACK = "stamps run back again and again"
_REASONS = {"frames": _IN_TURN, "times": _IN_TURN, "motion": _IN_TURN, "stamps": _BACK}


class _Message(NamedTuple):
    receive_ns: int = 0
    stamp_ns: int = 0
    row: Row = ()
    frame: bytes = b""
    is_picture: bool = False


class Turns:
    """Looks whether messages of one topic come from two publishers in turn.

    Four signs show two publishers, if enough messages of a stretch show one (`_SHARES`): frames that take turns, stamps
    that run back, and numbers that take turns while times do, too, or while they move. Numbers that take turns are no
    sign by themselves: a signal with two states, or a lamp that blinks before a camera, does that as well.
    """

    def __init__(self) -> None:
        # The last messages of the stretch before, with which the first of this one are compared, and this one.
        self._messages = [_Message()] * _BEFORE
        self._reasons: set[str] = set()

    def add(
        self, receive_ns: int, stamp_ns: int, row: Row, frame: bytes | None = None, is_picture: bool = False
    ) -> None:
        """Add a message, in the order of the bag.

        Args:
            stamp_ns: 0 for a message without a stamp.
            frame: of its header; None where it is not known.
        """
        messages = self._messages
        frame = messages[-1].frame if frame is None else frame
        messages.append(_Message(receive_ns, stamp_ns, row, frame, is_picture))
        if len(messages) == _BEFORE + _STRETCH:
            self._reasons |= self._found()
            del messages[:-_BEFORE]

    @property
    def reason(self) -> str:
        """Why the messages look like those of two publishers; empty if they do not."""
        reasons = self._reasons | (self._found() if len(self._messages) >= _BEFORE + _LEAST else set())
        return next((reason for reason in (_IN_TURN, _BACK) if reason in reasons), "")

    def _found(self) -> set[str]:
        """Return the reasons of the signs that enough messages of this stretch show."""
        messages = self._messages
        shown: Counter[str] = Counter()
        for place in range(_BEFORE, len(messages)):
            before, last, this = messages[place - 2 : place + 1]
            shown["frames"] += before.frame == this.frame != last.frame
            # An older stamp: two publishers have other clocks or delays, one has an order.
            shown["stamps"] += 0 < this.stamp_ns < last.stamp_ns
        for place in _like_last_but_one([message.row for message in messages]):
            if place >= _BEFORE:
                newest = messages[place - _BEFORE : place + 1]
                shown["times"] += _times_take_turns(newest)
                shown["motion"] += _numbers_move(newest)
        return {_REASONS[sign] for sign, share in _SHARES.items() if shown[sign] > share * (len(messages) - _BEFORE)}


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


def _times_take_turns(newest: Sequence[_Message]) -> bool:
    """Return whether a message comes a long time after the other publisher's, or a short one; one alone is even."""
    before, last, this = (newest[place].receive_ns - newest[place - 1].receive_ns for place in (-3, -2, -1))
    return abs(this - before) < _ALIKE * abs(this - last)


def _numbers_move(newest: Sequence[_Message]) -> bool:
    """Return whether the numbers of each publisher move steadily, and not just opposite to those of the other.

    The numbers of one publisher that take turns by themselves are states, noise around states, which goes on in one
    direction a third of the time, or a vibration, which moves in opposite directions.
    """
    rows = [message.row for message in newest if message.row is not None]
    if newest[-1].is_picture or len(rows) < len(newest) or len({len(row) for row in rows}) > 1:
        return False
    own, own_before = _step(rows[2], rows[4]), _step(rows[0], rows[2])
    other = _step(rows[1], rows[3])
    goes_on = sum(a * b for a, b in zip(own, own_before)) > 0
    return goes_on and max(abs(a + b) for a, b in zip(own, other)) >= max(map(abs, own)) / 2


def _like_last_but_one(rows: Sequence[Row]) -> Sequence[int]:
    """Return the places whose numbers are like those of the last message but one, not like the last."""
    if len({-1 if row is None else len(row) for row in rows}) > 1 or not rows or not rows[0]:
        return [place for place in range(2, len(rows)) if _is_like_last_but_one(*rows[place - 2 : place + 1])]
    numbers = np.array(rows, float)
    with np.errstate(over="ignore"):
        from_last, from_before = (np.abs(numbers[2:] - numbers[2 - back : -back]).max(axis=1) for back in (1, 2))
        return [int(place) + 2 for place in np.flatnonzero(from_before < _ALIKE * from_last)]


def _is_like_last_but_one(before: Row, last: Row, this: Row) -> bool:
    """Return the same of one message; where sizes differ, or some messages cannot be used, that alone is compared."""
    if this is None or last is None or before is None:
        return (this is None) == (before is None) != (last is None)
    if not len(this) == len(last) == len(before):
        return len(this) == len(before)
    largest = max(map(abs, _step(last, this)), default=0.0)
    return max(map(abs, _step(before, this)), default=0.0) < _ALIKE * largest


def _step(earlier: Sequence[float], later: Sequence[float]) -> list[float]:
    return [b - a for a, b in zip(earlier, later)]

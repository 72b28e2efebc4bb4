"""Messages that were published and never taken: lost on the way, or overtaken in the subscription's queue."""

from __future__ import annotations

from collections.abc import Callable


class MessageLoss:
    """A count of the gaps in a topic's publication sequence numbers.

    Each publisher numbers its own messages, and a number does not say which publisher it belongs to, so gaps count
    only while there is one publisher. Of two publishers of which one ends, the first gap still lies between the two. A
    number that goes back means that the publisher was restarted.

    Args:
        publishers: returns the number of publishers on the topic; called only at a gap, because it is slow.

    Attributes:
        lost: messages lost so far.
    """

    def __init__(self, publishers: Callable[[], int]) -> None:
        self.lost = 0
        self._publishers = publishers
        self._last: int | None = None
        self._mixed = False

    def see(self, number: int | None) -> None:
        """Take the sequence number of the next message; None where the middleware does not number messages."""
        last, self._last = self._last, number
        if last is None or number is None or number <= last + 1:
            return
        mixed, self._mixed = self._mixed, self._publishers() != 1
        if not mixed and not self._mixed:
            self.lost += number - last - 1

"""Messages that were published and never taken: lost on the way, or overtaken in the subscription's queue."""

from __future__ import annotations

from collections.abc import Callable


class MessageLoss:
    """A count of the gaps in a topic's publication sequence numbers.

    Each publisher numbers its own messages, and a number does not say which publisher it belongs to, so gaps count
    only while there is one publisher. A number that goes back means that the publisher was restarted.

    Args:
        publishers: returns the number of publishers on the topic; called only at a gap, because it is slow.

    Attributes:
        lost: messages lost so far.
    """

    def __init__(self, publishers: Callable[[], int]) -> None:
        self.lost = 0
        self._publishers = publishers
        self._last: int | None = None

    def see(self, number: int | None) -> None:
        """Take the sequence number of the next message; None where the middleware does not number messages."""
        last, self._last = self._last, number
        if last is not None and number is not None and number > last + 1 and self._publishers() == 1:
            self.lost += number - last - 1

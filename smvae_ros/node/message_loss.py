"""Messages that were published and never taken: lost on the way, or overtaken in the subscription's queue."""

from __future__ import annotations

from collections.abc import Callable


class MessageLoss:
    """Counts the gaps in a topic's publication sequence numbers.

    Each publisher numbers its own messages and a number does not say whose it is, so gaps count only while there is
    one publisher. A number that goes back is that of a publisher that was restarted.

    Args:
        publishers: how many publish on the topic; asked only at a gap, since asking costs more than counting.

    Attributes:
        lost: so far.
    """

    def __init__(self, publishers: Callable[[], int]) -> None:
        self.lost = 0
        self._publishers = publishers
        self._last: int | None = None

    def see(self, number: int | None) -> None:
        """Take the number of the next message; None where the middleware does not number them."""
        last, self._last = self._last, number
        if last is not None and number is not None and number > last + 1 and self._publishers() == 1:
            self.lost += number - last - 1

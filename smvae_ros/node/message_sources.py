"""The sources of one topic's messages: two publishers, or one that passes on two sensors, do not go unnoticed."""

from __future__ import annotations

# Behind the encapsulation and the stamp of a message that begins with a header: the length of the frame, the frame.
_FRAME, _NAME = 12, 16


class MessageSources:
    """A count of the messages that come from another source than the message before.

    Sources differ in their publishers, in the frame of their headers, or in the size of their pictures. rclpy does not
    say which publisher a message is from, but each publisher numbers its messages: where two are mixed, the numbers go
    back again and again.

    Args:
        has_header: whether the messages begin with a header.
        one_size: whether all messages of one source have the same number of bytes, as uncompressed images have.

    Attributes:
        changes: messages from another source than the one before. A publisher that is restarted counts once.
        frames: of the last two sources.
        sizes: bytes of the messages of the last two sources; empty if they may differ anyway.
    """

    def __init__(self, *, has_header: bool, one_size: bool) -> None:
        self.changes = 0
        self.frames: tuple[str, ...] = ()
        self.sizes: tuple[int, ...] = ()
        self._has_header, self._one_size = has_header, one_size
        self._number: int | None = None
        self._frame: bytes | None = None
        self._end = _FRAME
        self._size = 0

    def see(self, number: int | None, message: bytes) -> None:
        """Take the next message and its publication sequence number; None where the middleware does not number."""
        last, self._number = self._number, number
        changed = last is not None and number is not None and number <= last
        if self._has_header and message[_FRAME : self._end] != self._frame:
            changed = self._frame is not None or changed
            self._note_frame(message)
            # Another frame may have a name of another length.
            self._size = 0
        if self._one_size and len(message) != self._size:
            changed = bool(self._size) or changed
            self.sizes = (*self.sizes, len(message))[-2:] if self._size or not self.sizes else self.sizes
            self._size = len(message)
        self.changes += changed

    def _note_frame(self, message: bytes) -> None:
        order = "little" if message[1:2] == b"\1" else "big"
        self._end = _NAME + int.from_bytes(message[_FRAME:_NAME], order)  # type: ignore[arg-type]
        self._frame = bytes(message[_FRAME : self._end])
        name = self._frame[_NAME - _FRAME : -1].decode(errors="replace")
        if name and name not in self.frames:
            self.frames = (*self.frames, name)[-2:]

"""The player of the demo: a piece of a bag over real topics, at the recorded pace, stamped with the present time."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time_ns
from typing import Any, Literal

from geometry_msgs.msg import TwistStamped, WrenchStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, Image

from smvae_core.interrupts import interruptible, uninterrupted
from smvae_ros.bags.reading import open_bag

# Reliable (the default), because messages that the network drops would spoil the count of sets.
_QOS = QoSProfile(depth=200)
_TYPES = {message.__name__: message for message in (CameraInfo, Image, TwistStamped, WrenchStamped)}


@dataclass(frozen=True)
class Change:
    """A fault of some topics from the middle of a piece to its end.

    Attributes:
        at_ns: from the start of the piece.
        silent: topics on which nothing comes any more.
        frozen: topics on which the last content comes again and again, with new stamps.
    """

    at_ns: int
    silent: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recorded:
    """One message of a piece.

    Attributes:
        topic: name that the piece was read with.
        due_ns: time to publish it, from the start of the piece.
        stamp_ns: stamp in its header, from the start of the piece.
        message: the message, as `read_bag` gives it.
        content: the serialised message (CDR).
    """

    topic: str
    due_ns: int
    stamp_ns: int
    message: Any
    content: bytes

    def stamped(self, stamp_ns: int) -> bytes:
        """Return the serialised message with another stamp, which stands right after CDR's four bytes."""
        order: Literal["little", "big"] = "little" if self.content[1] == 1 else "big"
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        return self.content[:4] + seconds.to_bytes(4, order) + nanoseconds.to_bytes(4, order) + self.content[12:]


def read_piece(
    bag: Path, topics: Mapping[str, str], start_s: float, seconds: float, tell: Callable[[str], None]
) -> list[Recorded]:
    """Return the messages of a bag that were received within `seconds` from `start_s` on, by receive time.

    Args:
        topics: topics in the bag, by the names that the piece gives them.
        tell: called with a sentence for each damage, and for each channel that holds no ROS 2 messages.

    Raises:
        BagError: the bag cannot be read, or a topic is missing.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    piece: list[Recorded] = []
    begin_ns: int | None = None
    with open_bag(bag, topics) as opened:
        for name, receive_ns, stamp_ns, message in opened.messages():
            if begin_ns is None:
                begin_ns = receive_ns + round(start_s * 1e9)
            if receive_ns < begin_ns:
                continue
            if receive_ns >= begin_ns + round(seconds * 1e9):
                break
            content = bytes(store.serialize_cdr(message, message.__msgtype__))
            piece.append(Recorded(name, receive_ns - begin_ns, stamp_ns - begin_ns, message, content))
        for sentence in (*opened.damage, *(f"{channel} was left out: no ROS 2 messages" for channel in opened.foreign)):
            tell(sentence)
    return piece


class Player:
    """Publishers for the topics of a piece, and the times at which they published.

    Args:
        topics: topics to publish on, by the names that the piece gives them.
    """

    def __init__(self, node: Node, piece: list[Recorded], topics: Mapping[str, str]) -> None:
        self._piece = piece
        types = {message.topic: _TYPES[message.message.__msgtype__.split("/")[-1]] for message in piece}
        self._publishers = {
            name: node.create_publisher(types[name], topic, _QOS) for name, topic in topics.items() if name in types
        }
        self._stamps: dict[str, list[int]] = {name: [] for name in self._publishers}
        self._times: dict[str, list[int]] = {name: [] for name in self._publishers}

    def matched(self) -> bool:
        """Return whether somebody listens to every topic."""
        return all(publisher.get_subscription_count() for publisher in self._publishers.values())

    @contextmanager
    def playing(self, names: Collection[str], start_ns: int, change: Change | None) -> Iterator[Callable[[], bool]]:
        """Publish some topics of the piece from `start_ns` (system clock) on, to its end or to the end of the block.

        Yields:
            A function that returns whether the piece is still played.
        """
        stop = threading.Event()
        thread = threading.Thread(target=self._play, args=(names, start_ns, stop, change))
        with uninterrupted():
            thread.start()
            try:
                with interruptible():
                    yield thread.is_alive
            finally:
                stop.set()
                thread.join()

    def _play(self, names: Collection[str], start_ns: int, stop: threading.Event, change: Change | None) -> None:
        last: dict[str, Recorded] = {}
        for message in self._piece:
            changed = change is not None and message.stamp_ns >= change.at_ns
            if message.topic not in names or (changed and change is not None and message.topic in change.silent):
                continue
            content = message
            if changed and change is not None and message.topic in change.frozen:
                content = last.get(message.topic, message)
            last[message.topic] = content
            if stop.wait(max(0, start_ns + message.due_ns - time_ns()) / 1e9):
                return
            stamp_ns = start_ns + message.stamp_ns
            now_ns = time_ns()
            self._publishers[message.topic].publish(content.stamped(stamp_ns))
            self._stamps[message.topic].append(stamp_ns)
            self._times[message.topic].append(now_ns)

    def newest_published_ns(self, names: Collection[str], stamp_ns: int) -> int | None:
        """Return when the newest message of some topics up to a stamp was published; None if none was."""
        times = []
        for name in names:
            place = bisect_right(self._stamps[name], stamp_ns)
            if place:
                times.append(self._times[name][place - 1])
        return max(times, default=None)

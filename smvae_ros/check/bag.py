"""A bag as the source of a check: its topics and their messages."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from smvae_ros.bags.reading import bag_topics, open_bag
from smvae_ros.check.facts import Feed, Topic


class RecordedSource:
    """The first seconds of a bag.

    Attributes:
        topics: the topics with messages, by name.

    Raises:
        BagError: the bag cannot be read.
    """

    def __init__(self, bag: Path, seconds: float) -> None:
        self._bag, self._seconds = bag, seconds
        self.topics = {
            name: Topic(name, types, publishers, messages, described=described)
            for name, (types, publishers, messages, described) in sorted(bag_topics(bag).items())
            if messages
        }

    @contextmanager
    def feed(self, wanted: Mapping[str, str], types: Mapping[str, Collection[str]]) -> Iterator[Feed]:
        """Yield the messages of some topics.

        Args:
            wanted: topics by modality.
            types: by modality, the message types that its topic may have.

        Raises:
            BagError: the bag cannot be read.
        """

        def messages() -> Iterator[tuple[str, int, bytes]]:
            for _, names, receive_ns, data in opened.serialised():
                if opened.begin_ns is not None and receive_ns - opened.begin_ns > self._seconds * 1e9:
                    return
                for name in names:
                    yield name, receive_ns, data

        with open_bag(self._bag, wanted, types) as opened:
            yield Feed(opened.types, messages())

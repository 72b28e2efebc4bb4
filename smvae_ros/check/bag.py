"""A bag as the source of a check: its topics and their messages."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from smvae_ros.bags.contents import contents_of, left_out
from smvae_ros.bags.reading import open_bag
from smvae_ros.check.facts import Feed, Topic


class RecordedSource:
    """The first seconds of a bag.

    Attributes:
        topics: the topics with messages, by name.
        notes: sentences on what is missing or damaged, as far as it was read, and on channels of another kind.

    Raises:
        BagError: the bag cannot be read.
    """

    def __init__(self, bag: Path, seconds: float) -> None:
        self._bag, self._seconds = bag, seconds
        contents = contents_of(bag)
        self.topics = {
            name: Topic(name, topic.types, topic.publishers, topic.messages, described=topic.described)
            for name, topic in sorted(contents.topics.items())
            if topic.messages
        }
        self.notes = [*contents.damage, *left_out(contents.foreign)]

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
            self.notes += [sentence for sentence in opened.damage if sentence not in self.notes]

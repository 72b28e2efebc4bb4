"""The messages of a bag as samples: each message is judged by itself, as the node judges it when it arrives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from smvae_ros.bags.reading import Bag
from smvae_ros.conversions.bindings import Binding
from smvae_ros.conversions.cdr import MalformedMessage
from smvae_ros.conversions.errors import ConversionError
from smvae_ros.conversions.sample_reader import SampleReader
from smvae_ros.replay.turns import Turns, look


class Samples:
    """The samples of an open bag.

    Args:
        bindings: each modality with its message. A modality that the bag lacks has no samples.

    Attributes:
        unusable: by modality, number of messages that cannot be used, by reason.
        turns: by modality, whether its messages look like those of two publishers.

    Raises:
        ConfigurationError: a message type of the bag lacks a field that a binding names.
    """

    def __init__(self, bag: Bag, bindings: Sequence[Binding]) -> None:
        self.unusable: dict[str, Counter[str]] = {binding.modality.name: Counter() for binding in bindings}
        self.turns = {binding.modality.name: Turns() for binding in bindings}
        self._bag, self._bindings = bag, bindings
        self._readers = {
            binding.modality.name: SampleReader(
                as_recorded(binding, bag.message_types[binding.modality.name]).reading(bag.types)
            )
            for binding in bindings
            if binding.modality.name in bag.message_types
        }

    @property
    def begin_ns(self) -> int | None:
        """Receive time of the first message; None before it was read."""
        return self._bag.begin_ns

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """The bindings as the bag has them: its types of images, and the joints of its JointStates once known."""
        readers = self._readers
        names = ((binding.modality.name, binding) for binding in self._bindings)
        return tuple(readers[name].binding if name in readers else binding for name, binding in names)

    def messages(self) -> Iterator[tuple[str, int, int, Any]]:
        """Yield modality, receive time (ns), stamp (ns; 0 without header or stamp) and sample of each usable message.

        Raises:
            BagError: not one message can be read.
        """
        for topic, modalities, receive_ns, data in self._bag.serialised():
            read: dict[str, tuple[int, Any]] = {}
            bad: dict[str, str] = {}
            for name in modalities:
                try:
                    read[name] = self._readers[name].read(data, receive_ns)
                except MalformedMessage as error:  # it is damaged for all modalities of its topic
                    self._bag.note_damage(topic, str(error))
                    break
                except ConversionError as error:
                    bad[name] = str(error)
            else:
                for name, reason in bad.items():
                    self.unusable[name][reason] += 1
                    self.turns[name].add(receive_ns, 0, None)
                for name, (stamp_ns, sample) in read.items():
                    look(self.turns[name], self._readers[name].binding, receive_ns, stamp_ns, data, sample)
                    yield name, receive_ns, stamp_ns, sample


def as_recorded(binding: Binding, message_type: str) -> Binding:
    """Return a binding with the type that the bag has: images may be recorded compressed whatever the settings say."""
    return replace(binding, message=message_type) if binding.modality.is_image else binding

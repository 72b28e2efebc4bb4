"""What a robot or a bag sends: facts of each topic and of each modality, collected from the messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rosbags.typesys.store import Typestore

from smvae_core.modality import ModalityError
from smvae_ros.conversions.arrays import raw_array, reason_against
from smvae_ros.conversions.bindings import COMPRESSED, IMAGE, JOINTS, Binding
from smvae_ros.conversions.errors import ConversionError
from smvae_ros.conversions.sample_reader import SampleReader
from smvae_ros.replay.fusion_bag import LATENT
from smvae_ros.replay.spacings import Spacings
from smvae_ros.replay.turns import Turns, look
from smvae_ros.settings import FusionSettings
from smvae_ros.synchronizer.sample_set import SampleSet

_MOST_DELAYS = 20_000
# The types of what a fusion node publishes beside its predictions.
_OWN_TYPES = {LATENT, "smvae_ros/msg/FusionStatus"}


@dataclass(frozen=True)
class Topic:
    """A topic of a robot or a bag.

    Attributes:
        types: the message types that it has; more than one is a conflict.
        publishers: number of publishers.
        messages: number of messages in the bag; None for a robot.
        qos: what its publishers offer, in words; empty where nobody tells.
        incompatible: why the node's subscription would not match its publishers; empty if it would.
        described: whether the fields of its type are known here.
    """

    name: str
    types: tuple[str, ...]
    publishers: int
    messages: int | None = None
    qos: str = ""
    incompatible: str = ""
    described: bool = True


def of_fusion_nodes(topics: Mapping[str, Topic]) -> frozenset[str]:
    """Return the topics on which fusion nodes tell what they infer: no sensor brings them."""
    nodes = [name.removesuffix("latent") for name, topic in topics.items() if LATENT in topic.types]
    predictions = tuple(f"{node}predicted/" for node in nodes)
    return frozenset(
        name for name, topic in topics.items() if name.startswith(predictions) or not _OWN_TYPES.isdisjoint(topic.types)
    )


@dataclass(frozen=True)
class Feed:
    """The messages of some topics.

    Attributes:
        types: the definitions of their types.
        messages: name of the topic's modality, receive time (ns) and content (CDR) of each message, in order.
    """

    types: Typestore
    messages: Iterator[tuple[str, int, bytes]]


@dataclass
class Stream:
    """The facts seen of the messages of one modality.

    Attributes:
        messages: number of messages seen.
        usable: number of messages that could be converted and carry enough information.
        unusable: number of the others, by reason.
        spacings: times between the messages, by stamps or else by receive times.
        delays: times from stamp to receive time, in seconds.
        contents: kinds of content, such as `rgb8, 640×480` or `7 numbers`, with the number of messages.
        joints: names of the joints of a JointState.
        turns: whether the messages look like those of two publishers.
        valid: sum over the messages of the part that carries information, 0 to 1 each.
        repeated: number of pictures, or forces, that are the same as one just before.
        merged: whether some messages bring only some of the joints.
    """

    messages: int = 0
    usable: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    spacings: Spacings = field(default_factory=Spacings)
    delays: list[float] = field(default_factory=list)
    contents: Counter[str] = field(default_factory=Counter)
    joints: tuple[str, ...] = ()
    turns: Turns = field(default_factory=Turns)
    valid: float = 0.0
    repeated: int = 0
    merged: bool = False

    def add(self, reader: SampleReader, receive_ns: int, data: bytes) -> int:
        """Add a message; return its stamp in nanoseconds, 0 if it has none.

        Raises:
            ConversionError: the message cannot be used, or carries too little information.
        """
        self.messages += 1
        stamp_ns = reader.binding.stamp_ns(data)
        self.spacings.add(stamp_ns if stamp_ns > 0 else receive_ns)
        if stamp_ns > 0 and len(self.delays) < _MOST_DELAYS:
            self.delays.append((receive_ns - stamp_ns) / 1e9)
        self.contents[_content(reader.binding, data)] += 1
        if not self.joints and reader.binding.type == JOINTS and not reader.binding.fields:
            self.joints = tuple(reader.binding.values(data)[0])
        try:
            _, sample = reader.read(data)
        except ConversionError:
            self.turns.add(receive_ns, stamp_ns, None)
            raise
        self.repeated, self.merged = reader.repeated, self.merged or reader.merges
        look(self.turns, reader.binding, receive_ns, stamp_ns, data, sample)
        modality = reader.binding.modality
        if modality.preprocessing.kind != "force":  # a window takes several messages
            raw = raw_array(reader.binding, [sample])
            try:
                x = modality.to_model(raw)
            except ModalityError as error:
                raise ConversionError(str(error)) from None
            self.valid += float(modality.valid_share(x))
            if reason := reason_against(reader.binding, x, raw):
                raise ConversionError(reason)
        else:
            self.valid += 1.0
        self.usable += 1
        return stamp_ns


class Observation:
    """The messages of a feed on their way through the node's synchroniser.

    Attributes:
        streams: what was seen, by modality.
        sets: number of sets.
        held: number of sets with usable samples, by modality.
    """

    def __init__(self, feed: Feed, bindings: Mapping[str, Binding], settings: FusionSettings) -> None:
        self.streams = {name: Stream() for name in settings.streams}
        self.sets = 0
        self.held: Counter[str] = Counter()
        self._feed = feed
        self._readers = {name: SampleReader(binding.reading(feed.types)) for name, binding in bindings.items()}
        self._synchronizer = settings.synchronizer()

    def run(self) -> None:
        """Take all messages."""
        synchronizer = self._synchronizer
        for name, receive_ns, data in self._feed.messages:
            stream = self.streams[name]
            try:
                stamp_ns = stream.add(self._readers[name], receive_ns, data)
            except ConversionError as error:
                stream.unusable[str(error).removeprefix(f"{name}: ")] += 1
                continue
            while (due_ns := synchronizer.next_deadline()) is not None and due_ns <= receive_ns:
                self._see(synchronizer.poll(due_ns))
            self._see(synchronizer.add(name, stamp_ns, None, receive_ns))
        while (due_ns := synchronizer.next_deadline()) is not None:
            self._see(synchronizer.poll(due_ns))

    def dropped(self, name: str) -> dict[str, int]:
        """Return the samples that no set could take, by the synchroniser's reason."""
        return {reason: count for reason, count in self._synchronizer.counts[name].dropped.items() if count}

    def _see(self, sets: Sequence[SampleSet]) -> None:
        for sample_set in sets:
            self.sets += 1
            self.held.update(sample_set.samples.keys())


def _content(binding: Binding, data: bytes) -> str:
    """Return the encoding and the size of a message, in words.

    Raises:
        ConversionError: the bytes are no whole message.
    """
    values = binding.values(data)
    if binding.type == IMAGE:
        height, width, encoding, *_ = values
        return f"{encoding}, {width}×{height}"
    if binding.type == COMPRESSED:
        return str(values[0])
    numbers = [value for value in values if not isinstance(value, str | list)]
    return f"{sum(len(value) if hasattr(value, '__len__') else 1 for value in numbers)} numbers"

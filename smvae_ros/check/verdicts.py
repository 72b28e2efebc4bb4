"""The verdicts of a check: one line for each fact of each modality, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from statistics import median
from typing import Literal

from smvae_ros.check.facts import Observation, Stream, Topic, of_fusion_nodes
from smvae_ros.conversions.bindings import Binding
from smvae_ros.node.stream_faults import repeated_stamps
from smvae_ros.replay.account import in_words
from smvae_ros.replay.spacings import LONGEST_GAP
from smvae_ros.settings import FusionSettings, StreamSettings
from smvae_ros.synchronizer.sample_selection import STRETCH

Level = Literal["ok", "warning", "error"]

_OTHER_CLOCK_S = 1.0
_MOSTLY = 0.5
_NEARLY_ALWAYS = 0.95
_MOST_CANDIDATES = 3
# The share, and the number of messages, from which on those that bring nothing new are told.
_PARTLY, _FEWEST_REPEATED = 0.25, 20


@dataclass(frozen=True)
class Line:
    """One fact of a modality: what was found and wanted, how good it is, and what to do about it."""

    modality: str
    fact: str
    found: str
    wanted: str = ""
    level: Level = "ok"
    advice: str = ""


@dataclass(frozen=True)
class Verdict:
    """All lines of a check.

    Attributes:
        lines: in the order of the modalities.
        unused: topics that bring no modality.
        sets: number of sets that went out.
    """

    lines: tuple[Line, ...]
    unused: tuple[Topic, ...]
    sets: int

    @property
    def errors(self) -> list[Line]:
        """The lines for which the node would not fuse."""
        return [line for line in self.lines if line.level == "error"]

    @property
    def fuses(self) -> bool:
        """Whether the node would fuse all modalities."""
        return self.sets > 0 and not self.errors


def judge(
    bindings: Sequence[Binding], settings: FusionSettings, topics: Mapping[str, Topic], observed: Observation | None
) -> Verdict:
    """Return the verdicts on what was observed.

    Args:
        topics: all topics that there are, by name.
        observed: what was seen; None if there was no topic to listen to.
    """
    wanted = settings.root_topics()
    lines: list[Line] = []
    for binding in bindings:
        name = binding.modality.name
        stream = settings.streams[name]
        if not stream.enabled:
            lines.append(Line(name, "enabled", "false", level="warning", advice="left out of every set"))
            continue
        found = list(_topic_lines(binding, wanted[name], topics))
        lines += found
        if observed is not None and not any(line.level == "error" for line in found):
            lines += _message_lines(binding, topics[wanted[name]], stream, settings, observed)
    used = {wanted[binding.modality.name] for binding in bindings}
    unused = tuple(topic for name, topic in sorted(topics.items()) if name not in used)
    return Verdict(tuple(lines), unused, observed.sets if observed is not None else 0)


def _topic_lines(binding: Binding, name: str, topics: Mapping[str, Topic]) -> Iterator[Line]:
    modality = binding.modality.name
    topic = topics.get(name)
    if topic is None or not topic.publishers:
        yield Line(modality, "topic", "no publisher", name, "error", _other_topics(binding, name, topics))
        return
    messages = "" if topic.messages is None else f", {topic.messages:,} messages"
    many = topic.publishers > 1
    yield Line(
        modality,
        "topic",
        f"{topic.publishers} publisher{'s' * many}{messages}",
        name,
        "warning" if many else "ok",
        "their messages go into one stream" if many else "",
    )
    types = ", ".join(topic.types)
    if not set(topic.types) <= set(binding.recorded):
        advice = f"set streams.{modality}.message to a type that fits, or take another topic"
        others = _other_topics(binding, name, topics)
        yield Line(modality, "type", types, " or ".join(binding.recorded), "error", others or advice)
        return
    yield Line(modality, "type", types, " or ".join(binding.recorded))
    if topic.qos:
        level: Level = "error" if topic.incompatible else "ok"
        advice = f"{topic.incompatible}; set qos_overrides.{name}.subscription" if topic.incompatible else ""
        yield Line(modality, "QoS", topic.qos, "sensor data", level, advice)


def _other_topics(binding: Binding, name: str, topics: Mapping[str, Topic]) -> str:
    """Return the topics that could bring a modality, the most alike first, as an advice."""
    fitting = [topic for topic in topics.values() if set(topic.types) <= set(binding.recorded) and topic.publishers]
    inferred = of_fusion_nodes(topics)
    possible = [topic for topic in fitting if topic.name not in inferred]
    possible.sort(key=lambda topic: -SequenceMatcher(None, topic.name, name).ratio())
    if not possible:
        return f"nothing {'but a fusion node ' if fitting else ''}sends {' or '.join(binding.recorded)}"
    return f"--topic {binding.modality.name}:={' or '.join(topic.name for topic in possible[:_MOST_CANDIDATES])}"


def _message_lines(
    binding: Binding, topic: Topic, stream: StreamSettings, settings: FusionSettings, observed: Observation
) -> Iterator[Line]:
    name = binding.modality.name
    seen = observed.streams[name]
    if not seen.messages:
        later = f"the bag counts {topic.messages}, but none in the part that was read; read more: --seconds"
        yield Line(name, "messages", "none", "", "error", later if topic.messages else "look whether the sensor runs")
        return
    if seen.turns.reason:
        advice = f"{seen.turns.reason}; their messages go into one stream"
        yield Line(name, "publishers", "as if two in turn", "", "warning", advice)
    if repeat := _repeated_stamps(name, seen, observed):
        yield repeat  # rate and delay would be told wrong
    else:
        yield _rate(name, seen, stream, settings)
        yield _delay(name, seen, stream, settings)
    yield _content(binding, seen)
    yield from _repeated_content(name, seen)
    if seen.joints:
        yield _joints(name, seen, stream)
    share = seen.valid / seen.messages
    yield Line(
        name,
        "valid",
        f"{100 * share:.0f} %",
        "",
        "warning" if share < _MOSTLY else "ok",
        "most of it carries no information" if share < _MOSTLY else "",
    )
    yield _sets(name, stream, settings, observed)


def _repeated_stamps(name: str, seen: Stream, observed: Observation) -> Line | None:
    duplicates = 0 if seen.merged else observed.dropped(name).get("duplicate", 0)
    what, _, advice = repeated_stamps(seen.messages, duplicates).partition("; ")
    return Line(name, "stamps", what, "", "warning", advice) if what else None


def _repeated_content(name: str, seen: Stream) -> Iterator[Line]:
    share = seen.repeated / max(1, seen.messages - 1)
    if seen.messages < _FEWEST_REPEATED or share < _PARTLY:
        return
    found = f"{seen.repeated:,} of {seen.messages:,} are the same as one just before"
    hangs = "the sensor or its driver hangs, or nothing moves"
    advice = hangs if share > _NEARLY_ALWAYS else "the driver sends more often than the sensor measures"
    yield Line(name, "repeated", found, "", "warning", advice)


def _rate(name: str, seen: Stream, stream: StreamSettings, settings: FusionSettings) -> Line:
    usual_ns = seen.spacings.usual_ns()
    if usual_ns is None:
        return Line(name, "rate", "one message", "", "warning", "listen longer: --seconds")
    gaps = seen.spacings.gaps()
    found = f"{1e9 / usual_ns:.4g} Hz" + (f", {gaps} gaps to {seen.spacings.longest_ns / 1e9:.2g} s" if gaps else "")
    usual = usual_ns / 1e9
    if usual > stream.timeout:
        advice = f"streams.{name}.timeout: {LONGEST_GAP * usual:.2g}, or it counts as silent between two messages"
        return Line(name, "rate", found, f"above {1 / stream.timeout:.3g} Hz", "warning", advice)
    if stream.window > 1 and stream.period and usual > STRETCH * stream.period:
        advice = (
            f"a window of {stream.window} spans {1e3 * (stream.window - 1) * usual:.0f} ms and counts as absent: raise "
            f"the sensor's rate; or, if the logs were made with this rate, set streams.{name}.period: {usual:.2g}"
        )
        return Line(name, "rate", found, f"about {1 / stream.period:.4g} Hz", "error", advice)
    if stream.window > 1 and stream.window * usual > 1.0:
        advice = f"a window of {stream.window} spans {stream.window * usual:.2g} s; take a smaller one"
        return Line(name, "rate", found, "", "warning", advice)
    return Line(name, "rate", found)


def _delay(name: str, seen: Stream, stream: StreamSettings, settings: FusionSettings) -> Line:
    if not seen.delays:
        return Line(name, "stamps", "none", "", "warning", "receive times take their place; better stamp the messages")
    usual = median(seen.delays) - stream.offset
    jitter = max(seen.delays) - min(seen.delays)
    found = f"{1000 * usual:.1f} ms before receipt, ±{500 * jitter:.1f} ms"
    mended = f"streams.{name}.offset: {stream.offset + usual:.3f}"
    if abs(usual) > _OTHER_CLOCK_S:
        return Line(
            name, "stamps", found, "the node's clock", "error", f"another clock: synchronise it, or set {mended}"
        )
    if usual < -settings.future:
        wanted = f"at most {settings.future:g} s ahead"
        return Line(name, "stamps", found, wanted, "error", f"stamps lie ahead of the clock: set {mended}")
    if usual > settings.max_wait and name != settings.reference:
        advice = f"it comes later than a set waits: max_wait: {1.2 * (usual + jitter):.2g}"
        return Line(name, "stamps", found, f"within {1000 * settings.max_wait:.0f} ms", "warning", advice)
    return Line(name, "stamps", found)


def _content(binding: Binding, seen: Stream) -> Line:
    name, modality = binding.modality.name, binding.modality
    found = ", ".join(content for content, _ in seen.contents.most_common(3))
    wanted = f"{modality.preprocessing.kind} {'×'.join(map(str, modality.shape))}"
    if seen.usable < _MOSTLY * seen.messages:
        return Line(name, "content", found, wanted, "error", in_words(dict(seen.unusable)))
    if seen.unusable:
        return Line(name, "content", found, wanted, "warning", in_words(dict(seen.unusable)))
    return Line(name, "content", found, wanted)


def _joints(name: str, seen: Stream, stream: StreamSettings) -> Line:
    wanted = ", ".join(stream.joints)
    found = ", ".join(seen.joints)
    if not wanted and found:
        return Line(
            name, "joints", found, "", "warning", f"taken by position; name them: streams.{name}.joints: [{found}]"
        )
    return Line(name, "joints", found, wanted)


def _sets(name: str, stream: StreamSettings, settings: FusionSettings, observed: Observation) -> Line:
    share = observed.held[name] / observed.sets if observed.sets else 0.0
    found = f"in {100 * share:.0f} % of {observed.sets:,}"
    dropped = in_words(observed.dropped(name))
    if share >= _NEARLY_ALWAYS:
        return Line(name, "sets", found)
    level: Level = "error" if share < _MOSTLY else "warning"
    usual_ns = observed.streams[name].spacings.usual_ns()
    reach = stream.hold or stream.tolerance
    advice = f"dropped {dropped}" if dropped else "look at its tolerance and hold"
    if usual_ns is not None and name != settings.reference and stream.window == 1 and usual_ns / 1e9 > 2 * reach:
        usual = usual_ns / 1e9
        advice = f"it is slower than the sets: streams.{name}.hold: {2 * usual:.2g}, or make it the reference"
    return Line(name, "sets", found, "all", level, advice)

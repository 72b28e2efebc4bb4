"""The draft of a model configuration and a parameter file, from the topics of a robot or a bag."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from smvae_core.configuration import Configuration
from smvae_core.errors import ConfigurationError
from smvae_ros.check.facts import Topic
from smvae_ros.conversions.bindings import COMPRESSED, IMAGES, JOINTS, TWIST, VECTOR, WRENCH
from smvae_ros.replay.spacings import LONGEST_GAP, Spacings
from smvae_ros.settings import default_settings

CANDIDATES = (*IMAGES, WRENCH, TWIST, JOINTS, VECTOR)
"""The message types that a draft takes by itself."""

_GENERIC = {"camera", "image", "raw", "rect", "compressed", "compressedDepth", "state", "states", "out", "in"}
_DEPTH_ENCODINGS = ("16UC1", "32FC1", "mono16")


@dataclass
class Sample:
    """The knowledge that a draft has of a topic: its first message, and the times between its messages.

    Attributes:
        fields: paths of the numbers, of a message that no modality takes by itself.
        size: number of these numbers.
    """

    message: Any
    fields: tuple[str, ...] = ()
    size: int = 0
    spacings: Spacings = field(default_factory=Spacings)


class Draft:
    """A model configuration and the parameters of the node.

    Attributes:
        model: content of the configuration.
        modalities: its modalities.
        parameters: content of the parameter file.
        unused: topics that bring no modality.
    """

    def __init__(self, samples: Mapping[str, Sample], topics: Mapping[str, Topic]) -> None:
        chosen = {
            name: sample for name, sample in samples.items() if topics[name].types[0] in CANDIDATES or sample.fields
        }
        if not chosen:
            found = ", ".join(f"{topic.name} ({', '.join(topic.types)})" for topic in topics.values()) or "no topic"
            raise ConfigurationError(
                f"expected topics with {', '.join(CANDIDATES)} to draft modalities from, which no fusion node "
                f"publishes, found {found}"
            )
        names = _names(chosen)
        modalities = [_modality(names[topic], topics[topic].types[0], sample) for topic, sample in chosen.items()]
        self.model = {"model": {"size": "compact", "modalities": modalities}}
        configuration = Configuration.model_validate(self.model)
        streams = {names[topic]: _stream(topic, topics[topic].types[0], sample) for topic, sample in chosen.items()}
        images = {topic: one for topic, one in zip(chosen, modalities) if one["network"] == "image"}
        slowest = max(chosen, key=lambda topic: chosen[topic].spacings.usual_ns() or 0.0)
        self.modalities = configuration.model.modalities
        # A set for each picture of the camera that sends most; at the same rate, of a colour camera.
        reference = max(
            images,
            key=lambda topic: (topics[topic].messages or 0, images[topic]["preprocessing"]["kind"] == "rgb"),
            default=slowest,
        )
        self.parameters: dict[str, Any] = {"reference": names[reference], "streams": streams}
        default_settings(self.modalities).changed(self.parameters)
        self.unused = [topic for name, topic in topics.items() if name not in chosen]

    def write(self, name: str) -> list[Path]:
        """Write NAME.yaml and NAME_fusion.yaml; return their paths.

        Raises:
            ConfigurationError: a file exists already, or cannot be written.
        """
        model, parameters = Path(f"{name}.yaml"), Path(f"{name}_fusion.yaml")
        for path in (model, parameters):
            if path.exists():
                raise ConfigurationError(f"{path}: exists already; give --write another name or remove it")
        unused = [f"# Not used: {topic.name} ({', '.join(topic.types)})." for topic in self.unused]
        texts = {
            model: ["# Drafted by `smvae check`. Remove the modalities that the model should not learn.", *unused],
            parameters: ["# Drafted by `smvae check`: how the messages of the robot become sets."],
        }
        content = {model: self.model, parameters: {"/**": {"ros__parameters": self.parameters}}}
        for path, lines in texts.items():
            try:
                path.write_text("\n".join([*lines, yaml.safe_dump(content[path], sort_keys=False, width=110)]))
            except OSError as error:
                raise ConfigurationError(f"{path}: cannot be written ({error.strerror})") from None
        return [model, parameters]


def _modality(name: str, msgtype: str, sample: Sample) -> dict[str, Any]:
    message = sample.message
    entry: dict[str, Any] = {"name": name, "source": name}
    if msgtype in IMAGES:
        words = message.format if msgtype == COMPRESSED else message.encoding
        depth = any(encoding in words for encoding in _DEPTH_ENCODINGS)
        return entry | {
            "preprocessing": {"kind": "depth" if depth else "rgb", "size": 128},
            "network": "image",
            "likelihood": "bernoulli",
        }
    if msgtype == WRENCH:
        force = {"kind": "force", "window": 32}
        return entry | {"preprocessing": force, "network": "sequence", "likelihood": "normal", "scale": 0.1}
    if sample.fields:
        size = sample.size
    else:
        size = 6 if msgtype == TWIST else len(message.position if msgtype == JOINTS else message.values)
    vector = {"kind": "vector", "size": size}
    return entry | {"preprocessing": vector, "network": "vector", "likelihood": "normal", "scale": 0.1}


def _stream(topic: str, msgtype: str, sample: Sample) -> dict[str, Any]:
    """Return the parameters of a stream that differ from the defaults, by the rate that was seen."""
    stream: dict[str, Any] = {"topic": topic, "message": msgtype}
    if sample.fields:
        stream["fields"] = list(sample.fields)
    if msgtype == JOINTS and sample.message.name:
        stream["joints"] = list(sample.message.name)
    usual_ns = sample.spacings.usual_ns()
    if usual_ns is None:
        return stream
    usual = usual_ns / 1e9
    stream["period"] = _rounded(0.9 * usual)
    if LONGEST_GAP * usual > 0.5:
        stream["timeout"] = _rounded(LONGEST_GAP * usual)
    if msgtype != WRENCH and 0.6 * usual > 0.025:
        stream["tolerance"] = _rounded(0.6 * usual)
    if (msgtype in (TWIST, JOINTS, VECTOR) or sample.fields) and 2 * usual > 0.1:
        stream["hold"] = _rounded(2 * usual)
    return stream


def _names(topics: Iterable[str]) -> dict[str, str]:
    """Return a short, unique name of a modality for each topic."""
    names: dict[str, str] = {}
    for topic in topics:
        parts = [part for part in re.split(r"[^a-zA-Z0-9]+", topic) if part]
        own = [part.lower() for part in parts if part not in _GENERIC] or [part.lower() for part in parts]
        if "depth" in own:  # aligned_depth_to_color
            own = own[: own.index("depth") + 1]
        candidates = ["_".join(own[-length:]) for length in range(1, len(own) + 1)]
        candidates += [f"{candidates[-1]}_{number}" for number in range(2, 100)]
        usable = (name for name in candidates if name[0].isalpha() and name not in names.values())
        names[topic] = next(usable, f"modality_{len(names) + 1}")
    return names


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.2g}")

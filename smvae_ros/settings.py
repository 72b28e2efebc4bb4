"""Settings of the node and of the synchroniser: one place for ROS parameters, config/fusion.yaml and the replay.

All times are in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from smvae_core.device import Device
from smvae_core.errors import ConfigurationError, explain
from smvae_core.modality import Modality
from smvae_ros.conversions.bindings import Binding, bind
from smvae_ros.synchronizer.set_synchronizer import SetSynchronizer
from smvae_ros.synchronizer.stream import Stream

# When a parameter of the node may change. Fields without one of these change while the node is not active.
READ_ONLY: JsonDict = {"changes": "never"}
UNCONFIGURED: JsonDict = {"changes": "while unconfigured"}
ANY_TIME: JsonDict = {"changes": "at any time"}

Policy = Literal["off", "warn", "drop"]  # for a modality that is distrusted
_SIMULATED_FUTURE_S = 1.0
# Parameters that every ROS 2 node has.
_ROS_PARAMETERS = {"use_sim_time", "qos_overrides", "start_type_description_service"}


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeSettings(_Settings):
    """The settings that the node needs before it has a checkpoint."""

    autostart: bool = Field(
        default=True,
        description="configure and activate at once, without a lifecycle manager",
        json_schema_extra=READ_ONLY,
    )
    checkpoint: str = Field(
        default="",
        description="path of a .safetensors checkpoint; empty: the one that ships with the package",
        json_schema_extra=UNCONFIGURED,
    )
    device: Device = Field(
        default="auto",
        description="where the model runs: auto (the first GPU if it works, else the processor), cpu, cuda or cuda:N",
        json_schema_extra=UNCONFIGURED,
    )
    backend: Literal["auto", "eager", "channels_last", "onnx", "cuda_graph", "cuda_graph_half"] = Field(
        default="auto",
        description="what runs the model: auto (the fastest that agrees with plain PyTorch, measured after the first "
        "latent), or one of them, which gives the same bytes for the same set on the same machine",
        json_schema_extra=UNCONFIGURED,
    )
    precision: Literal["single", "tf32", "half"] = Field(
        default="single",
        description="on a GPU: single (without TF32), tf32 (outputs agree with single to 2e-2), or half (half "
        "precision where it is faster; to 2e-2)",
        json_schema_extra=UNCONFIGURED,
    )
    threads: NonNegativeInt = Field(
        default=0,
        description="threads of one inference on a processor; 0: the cores that the process may use less 1, at most 4",
        json_schema_extra=UNCONFIGURED,
    )


class StreamSettings(_Settings):
    """The settings of one modality: its topic, and how its samples reach the sets.

    `smvae_ros.synchronizer.stream.Stream` explains those that are not about topic, message and predictions.
    """

    topic: str = Field(min_length=1, description="topic of the modality")
    message: str = Field(
        default="",
        description="type of the topic's messages; empty: the usual one of the modality",
        json_schema_extra=UNCONFIGURED,
    )
    fields: tuple[str, ...] = Field(
        default=(),
        description="paths of the numbers in a message of any other type, as in linear.x or data[3]",
        json_schema_extra=UNCONFIGURED,
    )
    joints: tuple[str, ...] = Field(
        default=(),
        description="names of the joints to take from a JointState; empty: in the order of its first message",
        json_schema_extra=UNCONFIGURED,
    )
    enabled: bool = Field(
        default=True, description="false leaves the modality out of every set", json_schema_extra=ANY_TIME
    )
    distrust: Policy = Field(
        default="warn",
        description="a modality that contradicts what else is known: off (nothing; off for all saves trust's time), "
        "warn (it is named), or drop (it leaves the set, too, until it agrees again)",
        json_schema_extra=ANY_TIME,
    )
    prediction_rate: NonNegativeFloat = Field(
        default=0.0,
        le=1000.0,
        description="most predictions of the modality per second, 0 unlimited",
        json_schema_extra=ANY_TIME,
    )
    tolerance: NonNegativeFloat = Field(
        default=0.025, description="how far from the reference a sample may lie (s)", json_schema_extra=ANY_TIME
    )
    timeout: PositiveFloat = Field(default=0.5, description="silent for so long, the modality is not waited for (s)")
    depth: PositiveInt = Field(default=16, description="most samples kept")
    window: PositiveInt = Field(
        default=1, description="samples in a set: 1 the nearest, more the newest up to the reference"
    )
    least: PositiveInt = Field(default=1, description="samples with which a window counts as present")
    hold: NonNegativeFloat = Field(default=0.0, description="age up to which a sample may be used again, 0 never (s)")
    offset: float = Field(default=0.0, description="added to each stamp (s)")
    period: NonNegativeFloat = Field(
        default=0.0, description="least spacing of two samples, 0 unknown; lets sets leave early (s)"
    )
    ordered: bool = Field(default=True, description="samples arrive in the order of their stamps")

    @field_validator("fields", "joints", "distrust", mode="before")
    @classmethod
    def _as_meant(cls, value: Any) -> Any:
        # YAML reads an off without quotes as false; the node has [""] for an empty list, whose type ROS 2 cannot tell.
        value = "off" if value is False else value
        return [name for name in value if name != ""] if isinstance(value, list | tuple) else value

    def stream(self, name: str) -> Stream:
        """Return the synchroniser's stream of that name, in nanoseconds.

        Raises:
            ValueError: values that do not go together.
        """
        return Stream(
            name=name,
            tolerance_ns=nanoseconds(self.tolerance),
            timeout_ns=nanoseconds(self.timeout),
            depth=self.depth,
            window=self.window,
            least=self.least,
            hold_ns=nanoseconds(self.hold),
            offset_ns=nanoseconds(self.offset),
            period_ns=nanoseconds(self.period),
            ordered=self.ordered,
            enabled=self.enabled,
        )


class FusionSettings(_Settings):
    """The settings by which messages become sets."""

    reference: str = Field(
        default="rgb", description="modality whose samples open sets; empty: a tick of the clock does"
    )
    max_wait: NonNegativeFloat = Field(
        default=0.05, description="longest wait of a reference for the others (s)", json_schema_extra=ANY_TIME
    )
    tick: PositiveFloat = Field(default=0.05, description="spacing of sets without reference, or its own if faster (s)")
    future: NonNegativeFloat = Field(
        default=0.1, description="how far ahead of the clock a stamp may be; in simulated time at least 1 (s)"
    )
    streams: dict[str, StreamSettings]

    @model_validator(mode="after")
    def _goes_together(self) -> FusionSettings:
        self.synchronizer()
        return self

    def synchronizer(self, *, simulated: bool = False) -> SetSynchronizer:
        """Return a synchroniser with these settings.

        Args:
            simulated: the clock is /clock, whose messages samples often overtake: stamps may lie further ahead.
        """
        return SetSynchronizer(
            self.synchronizer_streams(),
            reference=self.reference or None,
            max_wait_ns=nanoseconds(self.max_wait),
            tick_ns=nanoseconds(self.tick),
            future_ns=self.future_ns(simulated=simulated),
            simulated=simulated,
        )

    def future_ns(self, *, simulated: bool) -> int:
        """Return how far ahead of the clock a stamp may be, in nanoseconds; `simulated` as for `synchronizer`."""
        return nanoseconds(max(self.future, _SIMULATED_FUTURE_S) if simulated else self.future)

    def synchronizer_streams(self) -> list[Stream]:
        """Return the streams of the synchroniser, one for each modality."""
        return [settings.stream(name) for name, settings in self.streams.items()]

    def bindings(self, modalities: Iterable[Modality]) -> tuple[Binding, ...]:
        """Bind each modality to the message that brings it.

        Raises:
            ConfigurationError: a message that cannot bring its modality.
        """
        streams = self.streams.items()
        return bind(
            modalities,
            {name: stream.message for name, stream in streams},
            {name: stream.fields for name, stream in streams},
            {name: stream.joints for name, stream in streams},
        )

    def root_topics(self) -> dict[str, str]:
        """Return each modality's topic, resolved in the root namespace, as a bag has it."""
        return {name: "/" + stream.topic.lstrip("/") for name, stream in self.streams.items()}

    def changed(self, changes: dict[str, Any]) -> FusionSettings:
        """Return the settings with some values replaced; in `streams`, only the values that a modality's block names.

        Raises:
            ConfigurationError: an unknown key or modality, or a bad value.
        """
        content = self.model_dump()
        streams = changes.get("streams") or {}
        if not isinstance(streams, dict) or not all(isinstance(values, dict) for values in streams.values()):
            raise ConfigurationError(f"streams: expected a block for each modality, found {streams!r}")
        if unknown := sorted(set(streams) - set(self.streams)):
            raise ConfigurationError(
                f"expected settings of {', '.join(self.streams)}, found {', '.join(unknown)}; the model has no such "
                "modality (--config or --checkpoint names another model)"
            )
        content |= {key: value for key, value in changes.items() if key != "streams"}
        for name, values in streams.items():
            content["streams"][name] |= values
        try:
            return FusionSettings.model_validate(content)
        except ValidationError as error:
            raise ConfigurationError(explain(error)) from None


def default_settings(modalities: Iterable[Modality]) -> FusionSettings:
    """Return settings for a checkpoint's modalities: cameras and commands at up to 25 Hz, force/torque at up to 1 kHz.

    The reference is `rgb`, or else the first image, or else the clock.
    """
    modalities = list(modalities)
    topics = default_topics(modalities)
    images = [modality.name for modality in modalities if modality.is_image]
    reference = "rgb" if "rgb" in images else next(iter(images), "")
    return FusionSettings(
        reference=reference,
        streams={modality.name: _default_stream(modality, topics[modality.name]) for modality in modalities},
    )


def default_topics(modalities: Iterable[Modality]) -> dict[str, str]:
    """Return each modality's relative topic: `<name>/image` for images, `wrench` for `force`, else `<name>`."""
    by_name = {modality.name: modality for modality in modalities}
    topics = {name: f"{name}/image" if modality.is_image else name for name, modality in by_name.items()}
    if "force" in by_name and by_name["force"].preprocessing.kind == "force" and "wrench" not in by_name:
        topics["force"] = "wrench"
    return topics


def prediction_topics(modalities: Iterable[Modality]) -> dict[str, str]:
    """Return the topic of each modality's predictions: `~/predicted/wrench` for `force`, else `~/predicted/<name>`."""
    return {name: f"~/predicted/{topic.split('/')[0]}" for name, topic in default_topics(modalities).items()}


def flat(
    settings: NodeSettings | FusionSettings | StreamSettings, prefix: str = ""
) -> Iterator[tuple[str, Any, FieldInfo]]:
    """Yield name, value and field of each parameter; names of a modality's begin with `streams.<modality>.`."""
    for key, field in type(settings).model_fields.items():
        value = getattr(settings, key)
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from flat(inner, f"{prefix}{key}.{name}.")
        else:
            yield prefix + key, value, field


def read_parameters(path: Path) -> dict[str, Any]:
    """Read from a ROS 2 parameter file what `FusionSettings.changed` takes; `NodeSettings` are left out.

    Names may be nested or dotted, as in `streams.rgb.topic: image`.

    Raises:
        ConfigurationError: not a parameter file, or a parameter that the node does not have.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: expected YAML, found: {' '.join(str(error).split())}") from None
    nodes = content.values() if isinstance(content, dict) else ()
    parameters = [node["ros__parameters"] for node in nodes if isinstance(node, dict) and "ros__parameters" in node]
    if len(parameters) != 1 or not isinstance(parameters[0], dict):
        raise ConfigurationError(f"{path}: expected the ros__parameters of one node, found those of {len(parameters)}")
    nested: dict[str, Any] = {}
    _nest(parameters[0], nested)
    if unknown := sorted(
        set(nested) - set(FusionSettings.model_fields) - set(NodeSettings.model_fields) - _ROS_PARAMETERS
    ):
        raise ConfigurationError(f"{path}: unknown parameter {', '.join(unknown)}")
    return {key: value for key, value in nested.items() if key in FusionSettings.model_fields}


def nanoseconds(seconds: float) -> int:
    """Convert seconds to whole nanoseconds."""
    return round(seconds * 1e9)


def _nest(content: dict[Any, Any], nested: dict[str, Any]) -> None:
    for name, value in content.items():
        *path, key = str(name).split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigurationError(f"{name}: expected '{part}' to have parameters, found {place!r}")
        if isinstance(value, dict):
            _nest({f"{key}.{inner}": each for inner, each in value.items()}, place)
        else:
            place[key] = value


def _default_stream(modality: Modality, topic: str) -> StreamSettings:
    preprocessing = modality.preprocessing
    if preprocessing.kind == "force":
        window = preprocessing.window
        # Samples that arrive while a set waits must not push out the set's own window.
        return StreamSettings(topic=topic, timeout=0.2, depth=window + 480, window=window, least=window, period=0.0009)
    if preprocessing.kind == "vector":
        # A command stays in force until the next one.
        return StreamSettings(topic=topic, depth=64, hold=0.1, period=0.04)
    return StreamSettings(topic=topic, period=0.04)

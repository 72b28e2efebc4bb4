"""The node's ROS parameters, declared from the same pydantic settings that the offline replay reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.validate_topic_name import validate_topic_name

from smvae_core.errors import ConfigurationError, explain
from smvae_core.modality import Modality
from smvae_ros.overrides import declare, unknown_overrides
from smvae_ros.settings import ANY_TIME, READ_ONLY, UNCONFIGURED, FusionSettings, NodeSettings, default_settings, flat

# ROS ranges need two ends.
_MOST_SECONDS = 60.0
_MOST_COUNT = 100_000


def declare_node_settings(node: Node) -> None:
    """Declare the parameters of `NodeSettings`.

    Raises:
        ConfigurationError: an override of the wrong type or out of range, named.
    """
    _declare(node, flat(NodeSettings()))


def node_settings(node: Node) -> NodeSettings:
    """Return the current values of the parameters of `NodeSettings`.

    Raises:
        ConfigurationError: a value that is not one of the choices.
    """
    try:
        return NodeSettings(**{name: node.get_parameter(name).value for name in NodeSettings.model_fields})
    except ValidationError as error:
        raise ConfigurationError(explain(error)) from None


def declare_fusion_settings(node: Node, modalities: tuple[Modality, ...]) -> None:
    """Declare the parameters of `FusionSettings` for a checkpoint's modalities, unless they are declared already.

    Raises:
        ConfigurationError: an override of the wrong type or out of range, named; the default is in place afterwards.
    """
    _declare(node, flat(default_settings(modalities)))


def fusion_settings(node: Node, modalities: tuple[Modality, ...], changes: Sequence[Parameter] = ()) -> FusionSettings:
    """Return the current values of the parameters of `FusionSettings`, with `changes` applied.

    Raises:
        ConfigurationError: a bad value, or values that do not go together.
    """
    defaults = default_settings(modalities)
    values = {name: node.get_parameter(name).value for name, _, _ in flat(defaults)}
    values |= {parameter.name: parameter.value for parameter in changes if parameter.name in values}
    nested: dict[str, Any] = {"streams": {}}
    for name, value in values.items():
        *path, key = name.split(".")
        if path:
            nested["streams"].setdefault(path[1], {})[key] = value
        else:
            nested[key] = value
    settings = defaults.changed(nested)
    for name, stream in settings.streams.items():
        try:
            validate_topic_name(stream.topic)
        except InvalidTopicNameException as error:
            reason = str(error).splitlines()[0].removeprefix("Invalid topic name: ").rstrip(":")
            raise ConfigurationError(f"streams.{name}.topic: {reason}, found '{stream.topic}'") from None
    return settings


def refuse_node_settings(changes: Sequence[Parameter], state: str) -> None:
    """Refuse changes of `NodeSettings` that cannot be applied; other parameters are passed over.

    Raises:
        ConfigurationError: a bad value, or a node past the state in which it reads the parameter.
    """
    values = {parameter.name: parameter.value for parameter in changes if parameter.name in NodeSettings.model_fields}
    if values and state != "unconfigured":
        raise ConfigurationError(f"{', '.join(values)}: changes only while the node is unconfigured, and it is {state}")
    try:
        NodeSettings(**values)
    except ValidationError as error:
        raise ConfigurationError(explain(error)) from None


def refuse_fusion_settings(
    node: Node, modalities: tuple[Modality, ...], changes: Sequence[Parameter], state: str
) -> None:
    """Refuse changes of `FusionSettings` that cannot be applied; other parameters are passed over.

    Raises:
        ConfigurationError: a bad value, values that do not go together, or a node past the state in which they change.
    """
    fields = {name: field for name, _, field in flat(default_settings(modalities))}
    names = [parameter.name for parameter in changes if parameter.name in fields]
    for name in names:
        when = fields[name].json_schema_extra
        if when == UNCONFIGURED:
            raise ConfigurationError(f"{name}: changes only while the node is unconfigured, and it is {state}")
        if when != ANY_TIME and state == "active":
            raise ConfigurationError(f"{name}: changes only while the node is not active")
    if names:
        fusion_settings(node, modalities, changes)


def unknown_settings(node: Node) -> list[str]:
    """Return the names of overrides that the node has no parameter for.

    Parameters of a modality that the checkpoint lacks give one name, `streams.<modality>`.
    """

    def shortened(name: str) -> str:
        stream = ".".join(name.split(".")[:2])
        return stream if name.startswith("streams.") and not node.has_parameter(f"{stream}.topic") else name

    return list(dict.fromkeys(map(shortened, unknown_overrides(node))))


def _declare(node: Node, parameters: Iterator[tuple[str, Any, FieldInfo]]) -> None:
    missing = []
    for name, setting, field in parameters:
        if node.has_parameter(name):
            continue
        override = node._parameter_overrides.get(name)
        if override is not None and override.value is False and "off" in get_args(field.annotation):
            # YAML reads an off without quotes as false.
            node._parameter_overrides[name] = Parameter(name, value="off")
        # ROS 2 cannot tell the type of an empty list.
        value = [*(setting or ("",))] if isinstance(setting, tuple) else setting
        if isinstance(setting, tuple) and override is not None and override.value in (None, []):
            node._parameter_overrides[name] = Parameter(name, value=[""])
        descriptor = _descriptor(value, field)
        descriptor.read_only = field.json_schema_extra == READ_ONLY
        missing.append((name, value, descriptor))
    try:
        declare(node, missing)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}; until that is mended, the defaults stand") from None


def _descriptor(value: Any, field: FieldInfo) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=field.description or "")
    if isinstance(value, bool):
        return descriptor
    at_least, above, at_most = (_bound(field, kind) for kind in ("ge", "gt", "le"))
    if isinstance(value, int):
        least = int(above) + 1 if above is not None else int(at_least or 0)
        descriptor.integer_range.append(IntegerRange(from_value=least, to_value=_MOST_COUNT, step=0))
    elif isinstance(value, float):
        lower = above if above is not None else at_least
        descriptor.floating_point_range.append(
            FloatingPointRange(
                from_value=-_MOST_SECONDS if lower is None else lower,
                to_value=_MOST_SECONDS if at_most is None else at_most,
                step=0.0,
            )
        )
    return descriptor


def _bound(field: FieldInfo, kind: str) -> float | None:
    bounds = (getattr(item, kind, None) for item in field.metadata)
    return next((float(bound) for bound in bounds if bound is not None), None)

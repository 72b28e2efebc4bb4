"""The node's ROS parameters, declared from the same pydantic settings that the offline replay reads."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from smvae_core.errors import ConfigurationError, explain
from smvae_core.modality import Modality
from smvae_ros.settings import ANY_TIME, READ_ONLY, UNCONFIGURED, FusionSettings, NodeSettings, default_settings, flat

# ROS ranges need two ends.
_MOST_SECONDS = 60.0
_MOST_COUNT = 100_000


def declare_node_settings(node: Node) -> None:
    """Declare what stands in `NodeSettings`.

    Raises:
        ConfigurationError: an override of the wrong type or out of range, named.
    """
    _declare(node, flat(NodeSettings()))


def node_settings(node: Node) -> NodeSettings:
    """The declared node settings as they stand.

    Raises:
        ConfigurationError: a value that is none of the choices.
    """
    try:
        return NodeSettings(**{name: node.get_parameter(name).value for name in NodeSettings.model_fields})
    except ValidationError as error:
        raise ConfigurationError(explain(error)) from None


def declare_fusion_settings(node: Node, modalities: tuple[Modality, ...]) -> None:
    """Declare how messages become sets, for the modalities of a checkpoint; what is declared already stays as it is.

    Raises:
        ConfigurationError: an override of the wrong type or out of range, named; its default is in place afterwards.
    """
    _declare(node, flat(default_settings(modalities)))


def fusion_settings(node: Node, modalities: tuple[Modality, ...], changes: Sequence[Parameter] = ()) -> FusionSettings:
    """The declared fusion settings as they stand, or as they would stand with `changes`.

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
    return defaults.changed(nested)


def refuse_node_settings(changes: Sequence[Parameter], state: str) -> None:
    """Refuse changes that cannot be applied; parameters that are none of `NodeSettings` are passed over.

    Raises:
        ConfigurationError: a bad value, or a node that is past the state in which it would read it.
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
    """Refuse changes that cannot be applied; parameters that are none of `FusionSettings` are passed over.

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


def unknown_overrides(node: Node) -> list[str]:
    """Parameters that a file or the command line gives, and that no declared parameter takes."""
    return [
        name
        for name in sorted(node._parameter_overrides)
        if not node.has_parameter(name) and not name.startswith("qos_overrides.")
    ]


def _declare(node: Node, parameters: Iterator[tuple[str, Any, FieldInfo]]) -> None:
    problems = []
    for name, value, field in parameters:
        if node.has_parameter(name):
            continue
        descriptor = _descriptor(value, field)
        descriptor.read_only = field.json_schema_extra == READ_ONLY
        try:
            node.declare_parameter(name, value, descriptor)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            node.declare_parameter(name, value, descriptor, ignore_override=True)
            problems.append(f"{error} (the default is {value!r})")
    if problems:
        raise ConfigurationError("; ".join(problems))


def _descriptor(value: Any, field: FieldInfo) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=field.description or "")
    bounds = [bound for item in field.metadata for bound in (getattr(item, "ge", None), getattr(item, "gt", None))]
    bounds = [bound for bound in bounds if bound is not None]
    if isinstance(value, bool):
        return descriptor
    if isinstance(value, int):
        least = min(bounds, default=0) + any(getattr(item, "gt", None) is not None for item in field.metadata)
        descriptor.integer_range.append(IntegerRange(from_value=least, to_value=_MOST_COUNT, step=0))
    elif isinstance(value, float):
        least = float(bounds[0]) if bounds else -_MOST_SECONDS
        most = next((float(item.le) for item in field.metadata if getattr(item, "le", None) is not None), _MOST_SECONDS)
        descriptor.floating_point_range.append(FloatingPointRange(from_value=least, to_value=most, step=0.0))
    return descriptor

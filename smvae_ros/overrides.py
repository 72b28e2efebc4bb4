"""Overrides: the parameters that files and the command line give a node, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from smvae_core.errors import ConfigurationError


def declare(node: Node, parameters: Iterable[tuple[str, Any, ParameterDescriptor]]) -> None:
    """Declare parameters: name, default and descriptor of each.

    Raises:
        ConfigurationError: overrides of the wrong type or out of range, named; their defaults are in place afterwards.
    """
    problems = []
    for name, default, descriptor in parameters:
        try:
            node.declare_parameter(name, default, descriptor)
        except (InvalidParameterTypeException, InvalidParameterValueException):
            node.declare_parameter(name, default, descriptor, ignore_override=True)
            found = node._parameter_overrides[name].value
            problems.append(f"{name}: expected {_expected(default, found, descriptor)}, found {found!r}")
    if problems:
        raise ConfigurationError("; ".join(problems))


def unknown_overrides(node: Node) -> list[str]:
    """Return the names of overrides that the node has no parameter for."""
    return [
        name
        for name in sorted(node._parameter_overrides)
        if not node.has_parameter(name) and not name.startswith("qos_overrides.")
    ]


def files_of_others(node: Node, arguments: Sequence[str]) -> list[str]:
    """Return a sentence for each parameter file of the command line that has no block for the node."""
    name, sentences = node.get_fully_qualified_name(), []
    for option, file in zip(arguments, arguments[1:]):
        if option != "--params-file":
            continue
        others = _nodes(file)
        if not any(_matches(pattern, name) for pattern in others):
            found = ", ".join(others) or "none"
            sentences.append(f"{file}: expected a block for {name} or /**, found {found}; it has no effect")
    return sentences


def _expected(default: Any, found: Any, descriptor: ParameterDescriptor) -> str:
    kinds = {bool: "true or false", int: "an integer", float: "a double", str: "a string", list: "a list of strings"}
    kind = kinds[type(default)]
    if type(found) is int and isinstance(default, float):
        return f"{kind} (with a point, as {found:.1f})"
    if type(found) is not type(default):
        return kind
    ends = [*descriptor.integer_range, *descriptor.floating_point_range]
    return " ".join([kind, *(f"from {one.from_value} to {one.to_value}" for one in ends)])


def _nodes(file: str) -> list[str]:
    """Return the node names, wild cards included, that a parameter file has blocks for; rcl has read it already."""

    def blocks(content: Any, path: str) -> Iterator[str]:
        if isinstance(content, dict):
            for key, value in content.items():
                if key == "ros__parameters":
                    yield path
                else:
                    yield from blocks(value, f"{path}/{str(key).strip('/')}")

    return list(blocks(yaml.safe_load(Path(file).read_text()), ""))


def _matches(pattern: str, name: str) -> bool:
    """Return whether a block is for a node: `*` stands for one part of its full name, `**` for any number of parts."""
    parts = {"**": "(/[^/]+)*", "*": "/[^/]+"}
    return (
        re.fullmatch("".join(parts.get(one, "/" + re.escape(one)) for one in pattern.split("/")[1:]), name) is not None
    )

"""The numbers of a message of any type, as `fields` for the parameter file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from rosbags.typesys.store import Typestore

from smvae_ros.conversions.accessors import read_attribute

MOST_NUMBERS = 64
"""A longer message is a scan, a map or a cloud, and no vector of measurements."""

# They describe other messages, or ROS itself.
_NO_SENSORS = re.compile(r"(tf2|rcl_interfaces|diagnostic|lifecycle|rosgraph|action|smvae_ros)\w*/|.*/CameraInfo$")
_TIMES = ("std_msgs/msg/Header", "builtin_interfaces/msg/Time", "builtin_interfaces/msg/Duration")


def brings_numbers(message_type: str) -> bool:
    """Return whether messages of a type may be measurements or commands."""
    return not _NO_SENSORS.match(message_type)


def numeric_fields(types: Typestore, message_type: str, message: Any) -> tuple[tuple[str, ...], int]:
    """Return the paths of the floating-point numbers of a message, and their number; none if there are too many.

    Stamps and covariances are left out. Of a list of messages, the first counts.
    """
    paths = tuple(_paths(types, message_type, message, ""))
    size = sum(np.size(read_attribute(message, path)) for path in paths)
    return (paths, size) if 0 < size <= MOST_NUMBERS else ((), 0)


def _paths(types: Typestore, message_type: str, message: Any, before: str) -> Iterator[str]:
    for name, _ in types.fielddefs[message_type][1]:
        value = getattr(message, name)
        path = f"{before}{name}"
        if "covariance" in name:
            continue
        if isinstance(value, float) or (isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size):
            yield path
        elif isinstance(value, list) and value and hasattr(value[0], "__msgtype__"):
            yield from _paths(types, value[0].__msgtype__, value[0], f"{path}[0].")
        elif getattr(value, "__msgtype__", _TIMES[0]) not in _TIMES:
            yield from _paths(types, value.__msgtype__, value, f"{path}.")

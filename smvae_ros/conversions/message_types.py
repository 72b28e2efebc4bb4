"""The Python classes of ROS messages. Imports ROS 2."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from smvae_core.errors import ConfigurationError


@cache
def message_class(message_type: str) -> type[Any]:
    """Return the class of a ROS type, such as `sensor_msgs/msg/Image`.

    Raises:
        ConfigurationError: its package is not installed, or has no such message.
    """
    package, _, name = message_type.rpartition("/")
    try:
        found: type[Any] = getattr(import_module(package.replace("/", ".")), name)
    except (ImportError, AttributeError, ValueError):
        raise ConfigurationError(
            f"expected a message type of an installed package, found '{message_type}'; "
            f"install {package.partition('/')[0] or 'its package'} and source its setup file"
        ) from None
    return found

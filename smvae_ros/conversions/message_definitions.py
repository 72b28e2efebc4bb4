"""The definitions of message types, from the packages of the ROS 2 installation that this process runs in."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from smvae_core.errors import ConfigurationError


def installed_types(message_types: Iterable[str]) -> Typestore:
    """Return a typestore with these message types and the types of their fields.

    Definitions are read from `share/PACKAGE/msg/NAME.msg` below the prefixes in AMENT_PREFIX_PATH.

    Raises:
        ConfigurationError: a type that no installed package defines.
    """
    types = get_typestore(Stores.EMPTY)
    waiting = list(message_types)
    while waiting:
        message_type = waiting.pop()
        if message_type not in types.fielddefs:
            types.register(get_types_from_msg(_text(message_type), message_type))
            waiting += _inner_types(types, message_type)
    return types


def _inner_types(types: Typestore, message_type: str) -> list[str]:
    fields: list[Any] = [detail for _, detail in types.fielddefs[message_type][1]]
    elements = [detail[0] if node in (Nodetype.ARRAY, Nodetype.SEQUENCE) else (node, detail) for node, detail in fields]
    return [detail for node, detail in elements if node == Nodetype.NAME]


def _text(message_type: str) -> str:
    package, _, name = message_type.replace("/msg/", "/").partition("/")
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    for prefix in filter(None, prefixes):
        try:
            return (Path(prefix) / "share" / package / "msg" / f"{name}.msg").read_text()
        except OSError:
            continue
    raise ConfigurationError(
        f"expected a message type of an installed package, found '{message_type}'; install {package or 'its package'} "
        "and source its setup file"
    )

"""The message types of a bag: those of ROS 2's common interfaces, and those that the bag itself describes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rosbags.interfaces import Connection, MessageDefinitionFormat, Nodetype
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from smvae_ros.conversions.bindings import VECTOR, VECTOR_STAMPED


def described_types(connections: Iterable[Connection], topics: Collection[str]) -> Typestore:
    """Return the types of ROS 2's common interfaces and those that the bag describes for some topics.

    A description that cannot be understood, or that needs another that is missing, is left out, so that its type is
    unknown.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(VECTOR_STAMPED, VECTOR))
    for connection in connections:
        if connection.topic in topics and connection.msgtype not in store.fielddefs:
            described = {k: v for k, v in _described(connection).items() if k not in store.fielddefs}
            known = store.fielddefs | described
            store.register({name: content for name, content in described.items() if _is_whole(name, known)})
    return store


def _described(connection: Connection) -> dict[str, Any]:
    definition = connection.msgdef
    try:
        if definition.format == MessageDefinitionFormat.MSG:
            return dict(get_types_from_msg(definition.data, connection.msgtype))
        if definition.format == MessageDefinitionFormat.IDL:
            return dict(get_types_from_idl(definition.data))
    except Exception:  # the parsers raise anything on what is no definition
        return {}
    return {}


def _is_whole(name: str, known: Mapping[str, Any], within: tuple[str, ...] = ()) -> bool:
    """Return whether all types in a type are known, and none holds itself."""
    if name in within or name not in known:
        return False
    kinds = [kind for _, kind in known[name][1]]
    kinds = [detail[0] if node in (Nodetype.ARRAY, Nodetype.SEQUENCE) else (node, detail) for node, detail in kinds]
    return all(_is_whole(detail, known, (*within, name)) for node, detail in kinds if node == Nodetype.NAME)

"""Fields of serialised ROS messages, read from the bytes without building message objects.

A `MessageAccessor` is built once for a message type and the paths of the wanted fields, from the definition in a
typestore of rosbags (that of a bag, or that of the installed packages, see `message_definitions.py`). It then reads
those fields of any number of messages:

    accessor = MessageAccessor(types, "sensor_msgs/msg/JointState", ("name", "position", "effort[2]"))
    accessor.stamp_ns(data)            # nanoseconds of the header; 0 without a header
    names, positions, effort = accessor.read(data)

Bytes are CDR as ROS 2 sends it (XCDR1, in either byte order), encapsulation included. Every length is checked against
the bytes that are there; a message that is cut off or inconsistent anywhere, be it in a wanted field or not, raises
`MalformedMessage`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from typing import Any, Literal

from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from smvae_core.errors import ConfigurationError
from smvae_ros.conversions.cdr import (
    ENCAPSULATION,
    MalformedMessage,
    Program,
    Tokens,
    Wanted,
    compile_message,
    definition,
    run,
)

Kind = Literal["number", "numbers", "text", "texts"]
"""What a field holds: one number (or bool), an array of numbers, one string, or an array of strings."""

HEADER = "std_msgs/msg/Header"

_TOKEN = re.compile(r"([A-Za-z_]\w*)((?:\[-?\d+\])*)")
_STAMPS = struct.Struct(">iI").unpack_from, struct.Struct("<iI").unpack_from


class MessageAccessor:
    """A reader of some fields of the messages of one type.

    Args:
        types: the definitions.
        message_type: the ROS type, such as `sensor_msgs/msg/JointState`.
        paths: the wanted fields. A field of an inner message follows a dot (`twist.linear.x`); an element of an array
            has an index (`data[3]`), which counts from the end if it is negative (`points[-1].positions`).

    Attributes:
        message_type: the ROS type.
        paths: the wanted fields.
        kinds: what each of these fields holds.
        has_header: whether the messages have a header, with a stamp and a frame.
        header_first: whether they begin with it.

    Raises:
        ConfigurationError: the definitions lack the type, or the type lacks the field; the error names the fields that
            it has.
    """

    def __init__(self, types: Typestore, message_type: str, paths: Iterable[str]) -> None:
        self.message_type = message_type
        self.paths = tuple(paths)
        wanted = [(_tokens(message_type, path), slot) for slot, path in enumerate(self.paths)]
        self.kinds: tuple[Kind, ...] = tuple(
            _kind(types, message_type, path, tokens) for path, (tokens, _) in zip(self.paths, wanted)
        )
        self._fields = _Reader(types, message_type, wanted)
        fields = definition(types, message_type)
        self.has_header = (Nodetype.NAME, HEADER) in [detail for name, detail in fields if name == "header"]
        # With the header in front, as nearly always, the stamp has a fixed place.
        self.header_first = self.has_header and fields[0][0] == "header"
        paths_of_header = [("stamp", "sec"), ("stamp", "nanosec"), ("frame_id",)] if self.has_header else []
        self._header = _Reader(
            types, message_type, [(("header", *path), slot) for slot, path in enumerate(paths_of_header)]
        )

    def read(self, data: bytes | memoryview) -> tuple[Any, ...]:
        """Return the wanted fields of a message, in the order of `paths`.

        Numbers are int, float or bool; strings are str; arrays of strings are lists of str. Arrays of numbers are
        tuples if their length is fixed; otherwise NumPy arrays that view `data`: the pixels of an image are not copied.

        Raises:
            MalformedMessage: the bytes are no whole message of this type.
            MissingElement: an array is too short for a wanted index.
        """
        return self._fields(data)

    def stamp_ns(self, data: bytes | memoryview) -> int:
        """Return the stamp in the header, in nanoseconds; 0 if the messages have no header.

        Raises:
            MalformedMessage: the bytes end before the stamp.
        """
        if self.header_first:
            try:
                sec, nanosec = _STAMPS[data[1]](data, ENCAPSULATION)
            except (struct.error, IndexError):
                # Cut off before the stamp, or no CDR at all: the general reader says which.
                sec, nanosec, _ = self._header(data)
        elif self.has_header:
            sec, nanosec, _ = self._header(data)
        else:
            return 0
        return int(sec) * 1_000_000_000 + int(nanosec)

    def frame_id(self, data: bytes | memoryview) -> str:
        """Return the frame in the header; "" if the messages have no header.

        Raises:
            MalformedMessage: the bytes are no whole message of this type.
        """
        return str(self._header(data)[2]) if self.has_header else ""


def read_attribute(message: Any, path: str) -> Any:
    """Return the field at a path of a message object, of rclpy, of rosbags or of the like.

    Raises:
        AttributeError, IndexError, TypeError: the object has no such field.
    """
    for token in _tokens(type(message).__name__, path):
        message = getattr(message, token) if isinstance(token, str) else message[token]
    return message


class _Reader:
    """The compiled decoder of some fields of one message type."""

    def __init__(self, types: Typestore, message_type: str, wanted: Wanted) -> None:
        self._type, self._blank = message_type, [None] * len(wanted)
        self._programs: tuple[Program, Program] = (
            compile_message(types, message_type, wanted, ">"),
            compile_message(types, message_type, wanted, "<"),
        )

    def __call__(self, data: bytes | memoryview) -> tuple[Any, ...]:
        values: list[Any] = self._blank[:]
        try:
            if data[0] or data[1] > 1:
                raise MalformedMessage(
                    f"expected a {self._type} in CDR, found {len(data)} bytes that begin with {bytes(data[:4]).hex()}"
                )
            run(self._programs[data[1]], data, ENCAPSULATION, values)
        except (struct.error, IndexError):
            raise MalformedMessage(f"expected a whole {self._type}, found {len(data)} bytes, cut off") from None
        except UnicodeDecodeError:
            raise MalformedMessage(f"expected a {self._type} with UTF-8 strings, found other bytes") from None
        return tuple(values)


def _tokens(message_type: str, path: str) -> Tokens:
    """Split a path into names and indices: `points[-1].positions` gives points, -1, positions."""
    tokens: list[str | int] = []
    for part in path.split("."):
        match = _TOKEN.fullmatch(part)
        if match is None:
            raise ConfigurationError(
                f"{message_type}: expected the path of a field, such as linear.x or data[3], found '{path}'"
            )
        tokens.append(match[1])
        tokens += [int(index) for index in re.findall(r"-?\d+", match[2])]
    return tuple(tokens)


def _kind(types: Typestore, message_type: str, path: str, tokens: Tokens) -> Kind:
    """Return what the field holds.

    Raises:
        ConfigurationError: there is no such field, or it holds neither numbers nor strings.
    """
    found: Any = (Nodetype.NAME, message_type)
    for token in tokens:
        node, detail = found
        if isinstance(token, str):
            if node != Nodetype.NAME:
                found = None
                break
            fields = dict(definition(types, detail))
            if token not in fields:
                raise ConfigurationError(
                    f"{message_type}: expected a field of {detail} ({', '.join(fields)}), found '{token}' in '{path}'"
                )
            found = fields[token]
        elif node in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            element, length = detail
            if node == Nodetype.ARRAY and not -length <= token < length:
                raise ConfigurationError(f"{message_type}: expected an index below {length} in '{path}', found {token}")
            found = element
        else:
            raise ConfigurationError(
                f"{message_type}: expected an index only behind an array, found [{token}] in '{path}'"
            )
    kind = None if found is None else _leaf(found)
    if kind is None:
        raise ConfigurationError(
            f"{message_type}: expected the path of a number, a string or an array of them, found '{path}'"
            f"{_choices(types, found)}"
        )
    return kind


def _leaf(found: Any) -> Kind | None:
    """Return what a field of this type holds; None for messages."""
    is_array = found[0] in (Nodetype.ARRAY, Nodetype.SEQUENCE)
    node, detail = found[1][0] if is_array else found
    if node != Nodetype.BASE:
        return None
    if detail[0] == "string":
        return "texts" if is_array else "text"
    return "numbers" if is_array else "number"


def _choices(types: Typestore, found: Any) -> str:
    if found is None:
        return ""
    node, detail = found
    if node != Nodetype.NAME:
        return f", an array of {detail[0][1]}; add an index and a field"
    return f", a {detail}; add one of its fields: {', '.join(name for name, _ in definition(types, detail))}"

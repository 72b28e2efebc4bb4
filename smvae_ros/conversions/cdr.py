"""The decoder of CDR: a message definition, compiled to steps that read the wanted fields and pass over the others.

rosbags generates decoders too, but those build an object for every inner message: a WrenchStamped takes four times as
long. So only its definitions are used here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from smvae_core.errors import ConfigurationError
from smvae_ros.conversions.errors import ConversionError

ENCAPSULATION = 4
"""Bytes in front of a message. Alignment counts from behind them."""

NUMBERS = {
    "bool": "?", "byte": "B", "char": "B", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i",
    "uint32": "I", "int64": "q", "uint64": "Q", "float32": "f", "float64": "d",
}  # fmt: skip
"""The code in `struct` of each type of number."""

Tokens: TypeAlias = tuple[str | int, ...]
"""A path as names and indices."""
Wanted: TypeAlias = list[tuple[Tokens, int]]
"""Paths, and the place of each one's value among the values."""

_Tail: TypeAlias = Callable[["bytes | memoryview", int, "tuple[Any, ...]", "list[Any]"], int]
# The index of an element, None for the whole field, and the place of its value.
_Elements: TypeAlias = list[tuple[int | None, int]]


class MalformedMessage(ConversionError):
    """Bytes that are no message of the type: cut off, or with a length that does not fit."""


class MissingElement(ConversionError):
    """A whole message with an array that is too short for a wanted index."""


class Step(NamedTuple):
    """Numbers at fixed distances from each other, and then perhaps a part of variable length.

    Attributes:
        mask: the alignment of the beginning, less 1.
        unpack: the decoder of the numbers.
        size: bytes of the numbers.
        places: of each wanted value, its place among the values and among the numbers.
        tail: reads the variable part from a position, with the numbers (the last one is the length), into the values;
            returns the position behind it.
    """

    mask: int
    unpack: Callable[[Any, int], tuple[Any, ...]]
    size: int
    places: tuple[tuple[int, int | slice], ...]
    tail: _Tail | None


Program: TypeAlias = list[Step]


def run(program: Program, data: bytes | memoryview, at: int, values: list[Any]) -> int:
    """Read a message that begins at position `at` into `values`; return the position behind it.

    Raises:
        MalformedMessage, struct.error, IndexError, UnicodeDecodeError: the bytes are no whole message.
        MissingElement: an array is too short for a wanted index.
    """
    for mask, unpack, size, places, tail in program:
        at += (ENCAPSULATION - at) & mask
        numbers = unpack(data, at)
        at += size
        for slot, place in places:
            values[slot] = numbers[place]
        if tail is not None:
            at = tail(data, at, numbers, values)
    return at


def definition(types: Typestore, message_type: str) -> list[tuple[str, Any]]:
    """Return names and types of a message's fields.

    Raises:
        ConfigurationError: the typestore does not describe the type.
    """
    if message_type not in types.fielddefs:
        raise ConfigurationError(
            f"expected a message type that is described by the bag or by an installed package, found '{message_type}'"
        )
    return list(types.fielddefs[message_type][1])


def compile_message(types: Typestore, message_type: str, wanted: Wanted, order: str) -> Program:
    """Return the steps that read a message.

    Args:
        types: the definitions.
        message_type: the ROS type.
        wanted: paths that are known to lead to numbers, strings or arrays of them.
        order: `<` for little-endian bytes, `>` for big-endian bytes.

    Raises:
        ConfigurationError: a field that ROS 2 has no fixed coding for (wstring, long double).
    """
    compiler = _Compiler(types, order)
    compiler.message(message_type, wanted)
    compiler.close(None)
    return compiler.program


class _Compiler:
    """Collects numbers until a part of variable length, or one of unknown alignment, ends the step."""

    def __init__(self, types: Typestore, order: str) -> None:
        self.program: Program = []
        self._types, self._order = types, order
        self._open()

    def _open(self) -> None:
        self._format, self._size, self._count, self._alignment = "", 0, 0, 1
        self._places: list[tuple[int, int | slice]] = []

    def close(self, tail: _Tail | None) -> None:
        if self._format or tail is not None:
            unpack = struct.Struct(self._order + self._format).unpack_from
            self.program.append(Step(self._alignment - 1, unpack, self._size, tuple(self._places), tail))
        self._open()

    def message(self, message_type: str, wanted: Wanted) -> None:
        for name, (node, detail) in definition(self._types, message_type):
            inner = [(tokens[1:], slot) for tokens, slot in wanted if tokens[0] == name]
            field = f"{message_type}.{name}"
            if node == Nodetype.NAME:
                self.message(detail, inner)
            elif node == Nodetype.BASE and detail[0] == "string":
                self._length()
                self.close(_text([slot for _, slot in inner]))
            elif node == Nodetype.BASE:
                self._numbers(_code(field, detail[0]), 1, [(0, slot) for _, slot in inner])
            else:
                self._array(field, node, detail[0], detail[1], inner)

    def _array(self, field: str, node: Nodetype, element: Any, length: int, wanted: Wanted) -> None:
        elements: _Elements = [(_index(tokens), slot) for tokens, slot in wanted]
        fixed = length if node == Nodetype.ARRAY else None
        is_base = element[0] == Nodetype.BASE
        if fixed is None:
            self._length()
        if is_base and element[1][0] == "string":
            self.close(_texts(field, self._order, fixed, elements))
        elif is_base and fixed is not None:
            self._numbers(_code(field, element[1][0]), fixed, elements)
        elif is_base:
            self.close(_sequence(field, self._order, _code(field, element[1][0]), elements))
        else:
            self.close(self._messages(field, element[1], fixed, wanted))

    def _messages(self, field: str, message_type: str, fixed: int | None, wanted: Wanted) -> _Tail:
        passed = compile_message(self._types, message_type, [], self._order)
        programs: dict[int, Program] = {}
        for index in {_index(tokens) for tokens, _ in wanted}:
            assert index is not None
            inner = [(tokens[1:], slot) for tokens, slot in wanted if tokens[0] == index]
            programs[index] = compile_message(self._types, message_type, inner, self._order)
        return _messages(field, fixed, passed, programs)

    def _length(self) -> None:
        self._numbers("I", 1, [])
        # Decoded, unlike other numbers that are not wanted.
        self._format = self._format[: -len("4x")] + "I"

    def _numbers(self, code: str, count: int, wanted: _Elements) -> None:
        size = struct.calcsize(self._order + code)
        if size > self._alignment:
            # Its distance from the numbers before depends on where these begin.
            if self._size:
                self.close(None)
            self._alignment = size
        padding = -self._size % size
        self._size += padding + size * count
        self._format += f"{padding}x" if padding else ""
        if not wanted:
            self._format += f"{size * count}x"
            return
        self._format += f"{count}{code}"
        for index, slot in wanted:
            place = slice(self._count, self._count + count) if index is None else self._count + index % count
            self._places.append((slot, place))
        self._count += count


def _code(field: str, name: str) -> str:
    if name not in NUMBERS:
        raise ConfigurationError(f"{field}: expected numbers or strings, found {name}, which cannot be read")
    return NUMBERS[name]


def _index(tokens: Tokens) -> int | None:
    return tokens[0] if tokens and isinstance(tokens[0], int) else None


def _place(field: str, index: int, count: int) -> int:
    if not -count <= index < count:
        least = index + 1 if index >= 0 else -index
        raise MissingElement(f"expected at least {least} elements in {field}, found {count}")
    return index % count


def _end(field: str, at: int, size: int, data: bytes | memoryview) -> int:
    if at + size > len(data):
        raise MalformedMessage(f"expected {size} bytes for {field}, found {max(0, len(data) - at)}")
    return at + size


def _string_end(data: bytes | memoryview, at: int, size: int) -> int:
    end = _end("a string", at, size, data)
    if size and data[end - 1]:
        raise MalformedMessage("expected a string that ends with 0, found another byte")
    return end


def _string(data: bytes | memoryview, at: int, end: int) -> str:
    return str(data[at : max(at, end - 1)], "utf-8")


def _text(slots: list[int]) -> _Tail:
    def read(data: bytes | memoryview, at: int, numbers: tuple[Any, ...], values: list[Any]) -> int:
        end = _string_end(data, at, numbers[-1])
        for slot in slots:
            values[slot] = _string(data, at, end)
        return end

    return read


def _texts(field: str, order: str, fixed: int | None, wanted: _Elements) -> _Tail:
    length = struct.Struct(f"{order}I").unpack_from

    def read(data: bytes | memoryview, at: int, numbers: tuple[Any, ...], values: list[Any]) -> int:
        count = numbers[-1] if fixed is None else fixed
        _end(field, at, 4 * count, data)
        spans = []
        for _ in range(count):
            at += -at & 3
            end = _string_end(data, at + 4, length(data, at)[0])
            spans.append((at + 4, end))
            at = end
        for index, slot in wanted:
            if index is None:
                values[slot] = [_string(data, *span) for span in spans]
            else:
                values[slot] = _string(data, *spans[_place(field, index, count)])
        return at

    return read


def _sequence(field: str, order: str, code: str, wanted: _Elements) -> _Tail:
    dtype = np.dtype(order + code)
    unpack, size = struct.Struct(order + code).unpack_from, dtype.itemsize
    mask = size - 1

    def read(data: bytes | memoryview, at: int, numbers: tuple[Any, ...], values: list[Any]) -> int:
        count = numbers[-1]
        if not count:
            end = at
        else:
            at += (ENCAPSULATION - at) & mask
            end = _end(field, at, count * size, data)
        for index, slot in wanted:
            if index is not None:
                values[slot] = unpack(data, at + size * _place(field, index, count))[0]
            else:
                values[slot] = np.frombuffer(data, dtype, count, at) if count else np.empty(0, dtype)
        return end

    return read


def _messages(field: str, fixed: int | None, passed: Program, programs: dict[int, Program]) -> _Tail:
    def read(data: bytes | memoryview, at: int, numbers: tuple[Any, ...], values: list[Any]) -> int:
        count = numbers[-1] if fixed is None else fixed
        # A message has at least one byte.
        _end(field, at, count, data)
        chosen: dict[int, list[Program]] = {}
        for index, program in programs.items():
            chosen.setdefault(_place(field, index, count), []).append(program)
        end = at
        for number in range(count):
            for program in chosen.get(number, (passed,)):
                end = run(program, data, at, values)
            at = end
        return end

    return read

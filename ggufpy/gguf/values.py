"""Metadata values: their types in the file, and how Python values become bytes.

Source: llama.cpp ggml/include/gguf.h, enum gguf_type.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from ggufpy.errors import FormatError

Value = int | float | bool | str | list[int] | list[float] | list[bool] | list[str]

MAX_STRING_BYTES = 1 << 30
MAX_ARRAY_LENGTH = 1 << 30


class ValueType(IntEnum):
    """Type of a metadata value; the value is the id in the file."""

    U8 = 0
    I8 = 1
    U16 = 2
    I16 = 3
    U32 = 4
    I32 = 5
    F32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    U64 = 10
    I64 = 11
    F64 = 12

    @property
    def label(self) -> str:
        """The name in messages and tables: ``"u32"``, ``"string"``."""
        return self.name.lower()

    @property
    def code(self) -> str:
        """Letter of a fixed-size type, the same for `struct` and for NumPy."""
        return _CODES[self]

    @property
    def size(self) -> int:
        """Bytes of a fixed-size type."""
        return struct.calcsize("<" + self.code)


_CODES = {
    ValueType.U8: "B",
    ValueType.I8: "b",
    ValueType.U16: "H",
    ValueType.I16: "h",
    ValueType.U32: "I",
    ValueType.I32: "i",
    ValueType.F32: "f",
    ValueType.BOOL: "?",
    ValueType.U64: "Q",
    ValueType.I64: "q",
    ValueType.F64: "d",
}

# Python type: (type of a scalar, type of a list's elements), where Typed does not say otherwise.
_DEFAULTS: dict[type, tuple[ValueType, ValueType]] = {
    bool: (ValueType.BOOL, ValueType.BOOL),
    int: (ValueType.U32, ValueType.I32),
    float: (ValueType.F32, ValueType.F32),
    str: (ValueType.STRING, ValueType.STRING),
}


@dataclass(frozen=True, slots=True)
class Typed:
    """A value to be written as `type`; for a list, the type of its elements."""

    value: Value
    type: ValueType


def typed(key: str, value: Value | Typed) -> Typed:
    """Give a bare value its default type; raises FormatError for a value that has none."""
    if isinstance(value, Typed):
        return value
    items: Sequence[object] = value if isinstance(value, list) else [value]
    for kind, (scalar, element) in _DEFAULTS.items():
        if items and all(_is(item, kind) for item in items):
            return Typed(value, element if isinstance(value, list) else scalar)
    raise FormatError(f"metadata key '{key}': no type fits {value!r:.60}; wrap it in Typed")


def _is(item: object, kind: type) -> bool:
    """Like isinstance, but a bool is not an int."""
    return isinstance(item, kind) and (kind is bool or not isinstance(item, bool))


def encode_string(text: str) -> bytes:
    """Length and UTF-8 bytes; bytes that the reader could not decode come out as they were."""
    data = text.encode("utf-8", "surrogateescape")
    if len(data) > MAX_STRING_BYTES:
        raise ValueError(f"{len(data)} bytes are more than the {MAX_STRING_BYTES} of a string")
    return struct.pack("<Q", len(data)) + data


def encode_value(key: str, value: Typed) -> bytes:
    """The type id and the little-endian bytes of a metadata value; raises FormatError if it does not fit."""
    try:
        if isinstance(value.value, list):
            head = struct.pack("<IIQ", ValueType.ARRAY, value.type, len(value.value))
            return head + _encode_items(value.value, value.type)
        return struct.pack("<I", value.type) + _encode_items([value.value], value.type)
    except (ValueError, TypeError, OverflowError, struct.error) as exc:
        problem = f"{value.value!r:.60} is not {value.type.label} ({exc})"
        raise FormatError(f"metadata key '{key}': {problem}; wrap it in a Typed that fits") from exc


def _encode_items(items: Sequence[int | float | str], type: ValueType) -> bytes:
    if type is ValueType.ARRAY:
        raise TypeError("GGUF readers take no arrays of arrays")
    accepted = {ValueType.STRING: str, ValueType.BOOL: bool}.get(type, (int, float))
    if not all(isinstance(item, accepted) for item in items):
        raise TypeError("an element is of another kind")
    if type is ValueType.STRING:
        return b"".join([encode_string(str(item)) for item in items])
    return struct.pack(f"<{len(items)}{type.code}", *items)

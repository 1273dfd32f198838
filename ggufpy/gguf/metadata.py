"""Metadata of a GGUF file: checked when the file is opened, arrays decoded when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ggufpy.gguf.cursor import Cursor, quoted
from ggufpy.gguf.layout import MAX_KEY_BYTES
from ggufpy.gguf.mapping import MappedFile
from ggufpy.gguf.strings import Strings
from ggufpy.gguf.values import Value, ValueType


@dataclass(frozen=True, slots=True)
class _Array:
    """An array that lies in the file, whole and checked, and is not decoded yet."""

    file: MappedFile
    order: str
    type: ValueType
    count: int
    start: int

    def decode(self, most: int | None = None) -> list[int] | list[float] | list[bool] | list[str]:
        """All items, or the first ones."""
        if most is not None and most < self.count:
            return replace(self, count=most).decode()
        if self.type is ValueType.STRING:
            return list(self.strings())
        dtype = np.dtype(self.order + self.type.code)
        items: list[int] | list[float] | list[bool]
        items = np.frombuffer(self.file.buffer, dtype, self.count, self.start).tolist() if self.count else []
        return items

    def strings(self) -> Strings:
        buffer = self.file.buffer
        try:
            return Strings.read(buffer, self.start, self.count, self.order)
        except ValueError:  # they were good when the file was opened
            raise self.file.changed() from None


# Stands for an array whose file was closed; told from other values by identity.
_CLOSED: list[str] = []


class Metadata(Mapping[str, Value]):
    """Key to plain Python value, in file order.

    Arrays stay in the file: each time one is asked for it is decoded anew, as the lists of a vocabulary are
    large and read once. Strings that are not valid UTF-8 (a vocabulary may hold any bytes) are decoded with
    "surrogateescape": ``value.encode("utf-8", "surrogateescape")`` gives the bytes back, and two different
    strings never become equal.
    """

    def __init__(self, values: dict[str, Value | _Array], types: dict[str, ValueType]) -> None:
        self._values = values
        self.types: Mapping[str, ValueType] = types

    def __getitem__(self, key: str) -> Value:
        value = self._values[key]
        if value is _CLOSED:
            raise ValueError(f"metadata {quoted(key)} is an array, and its file was closed")
        return value.decode() if isinstance(value, _Array) else value

    def beginning(self, key: str, most: int) -> tuple[Value, int | None]:
        """The value; of an array the first items, and how many there are."""
        value = self._values[key]
        if not isinstance(value, _Array):
            return self[key], None
        return value.decode(most), value.count

    def strings(self, key: str) -> Strings | None:
        """The array of strings under `key`, not decoded; None if there is none."""
        value = self._values.get(key)
        if value is _CLOSED:
            raise ValueError(f"metadata {quoted(key)} is an array, and its file was closed")
        return value.strings() if isinstance(value, _Array) and value.type is ValueType.STRING else None

    def close(self) -> None:
        """Let go of the arrays; their keys stay, asking for them raises ValueError."""
        for key, value in self._values.items():
            if isinstance(value, _Array):
                self._values[key] = _CLOSED

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def strings_of(metadata: Mapping[str, Any], key: str) -> Strings | None:
    """The array of strings under `key` of any mapping; None if there is none."""
    if isinstance(metadata, Metadata):
        return metadata.strings(key)
    value = metadata.get(key)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        return None
    return Strings.of(value)


def read_metadata(cursor: Cursor, count: int) -> Metadata:
    """Read `count` entries from `cursor` on; raises FormatError for anything that is not as it should be."""
    values: dict[str, Value | _Array] = {}
    types: dict[str, ValueType] = {}
    for number in range(count):
        key = cursor.name(f"metadata key {number}")
        if not key:
            raise cursor.error(f"metadata key {number} is empty")
        if (size := len(key.encode())) > MAX_KEY_BYTES:
            raise cursor.error(f"metadata key {quoted(key)} has {size} bytes, the limit is {MAX_KEY_BYTES}")
        if key in values:
            raise cursor.error(f"metadata key {quoted(key)} appears twice")
        what = f"metadata {quoted(key)}"
        type = _read_type(cursor, what)
        if type is ValueType.ARRAY:
            values[key] = array = _read_array(cursor, what)
            type = array.type
        else:
            values[key] = _read_scalar(cursor, type, what)
        types[key] = type
    return Metadata(values, types)


def _read_type(cursor: Cursor, what: str) -> ValueType:
    id: int = cursor.number("I", f"type of {what}")
    try:
        return ValueType(id)
    except ValueError:
        raise cursor.error(f"{what} has type {id}, known are 0 to {max(ValueType)}") from None


def _read_scalar(cursor: Cursor, type: ValueType, what: str) -> Value:
    if type is ValueType.STRING:
        return cursor.bytes(what).decode("utf-8", "surrogateescape")
    if type is not ValueType.BOOL:
        value: int | float = cursor.number(type.code, what)
        return value
    byte: int = cursor.number("B", what)
    if byte > 1:
        raise cursor.error(f"{what} is a bool of value {byte}, not 0 or 1")
    return byte == 1


def _read_array(cursor: Cursor, what: str) -> _Array:
    type = _read_type(cursor, what)
    if type is ValueType.ARRAY:
        raise cursor.error(f"{what} is an array of arrays, which GGUF readers do not take")
    item_bytes = 8 if type is ValueType.STRING else type.size
    count = cursor.count("Q", f"length of {what}", item_bytes)
    if type is ValueType.STRING:
        start = cursor.skip_strings(count, what)
    else:
        start = cursor.advance(count * item_bytes, what)
    if type is ValueType.BOOL and count and np.frombuffer(cursor.buffer, np.uint8, count, start).max() > 1:
        raise cursor.error(f"{what} has bools of a value other than 0 and 1")
    return _Array(cursor.mapping, cursor.order, type, count, start)

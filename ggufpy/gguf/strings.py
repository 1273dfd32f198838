"""Strings that stay as they are in a GGUF file: a vocabulary as Python strings takes ten times the memory."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ggufpy._kernels import ffi, lib
from ggufpy.gguf.values import MAX_STRING_BYTES


@dataclass(frozen=True, slots=True, eq=False)
class Strings(Sequence[str]):
    """String i is bytes start[i] + 8 to start[i + 1] of `buffer`; it is decoded when it is asked for.

    Bytes that are not UTF-8 are decoded with "surrogateescape".
    """

    buffer: Any
    start: NDArray[np.uint64]

    @classmethod
    def read(cls, buffer: Any, position: int, count: int, order: str) -> Strings:
        """The `count` strings from `position` on; raises ValueError unless all are there and good."""
        start = np.empty(count + 1, np.uint64)
        found, _ = scan_strings(buffer, position, count, order, ffi.from_buffer("uint64_t[]", start))
        if found != count:
            raise ValueError(f"{found} strings where {count} should be")
        return cls(buffer, start)

    @classmethod
    def of(cls, texts: Iterable[str]) -> Strings:
        """Python strings, laid out as in a file."""
        parts = [text.encode("utf-8", "surrogateescape") for text in texts]
        buffer = b"".join(struct.pack("<Q", len(part)) + part for part in parts)
        return cls.read(buffer, 0, len(parts), "<")

    def copy(self) -> Strings:
        """The same strings in memory of their own: they do not keep the file mapped."""
        first, end = int(self.start[0]), int(self.start[-1])
        return Strings(bytes(self.buffer[first:end]), self.start - self.start[0])

    def __len__(self) -> int:
        return len(self.start) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        i = range(len(self))[index]
        return self._text(int(self.start[i]), int(self.start[i + 1]))

    def __iter__(self) -> Iterator[str]:
        ends = self.start.tolist()
        return map(self._text, ends, ends[1:])

    def _text(self, start: int, end: int) -> str:
        return str(self.buffer[start + 8 : end], "utf-8", "surrogateescape")

    def record(self) -> Any:
        """The gg_strings; it is good for as long as this object lives."""
        bytes, start = ffi.from_buffer("uint8_t[]", self.buffer), ffi.from_buffer("uint64_t[]", self.start)
        return ffi.new("gg_strings *", (bytes, start, len(self)))[0]


def scan_strings(
    buffer: Any, position: int, count: int, order: str, start: Any = ffi.NULL
) -> tuple[int, int]:
    """Step over `count` strings from `position` on. Returns how many are there and good, and where they end.

    start: memory for u64[count + 1], filled with the positions of all and of their end.
    """
    at = ffi.new("uint64_t *", position)
    bytes = ffi.from_buffer("uint8_t[]", buffer)
    big_endian = order == ">"
    found = lib.gg_scan_strings(bytes, len(buffer), at, count, big_endian, MAX_STRING_BYTES, start)
    return found, at[0]

"""Walking through the header of a GGUF file without trusting anything in it."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggufpy.errors import FormatError
from ggufpy.gguf.mapping import MappedFile
from ggufpy.gguf.strings import scan_strings
from ggufpy.gguf.values import MAX_ARRAY_LENGTH, MAX_STRING_BYTES


def quoted(name: str) -> str:
    """A name from a file as messages show it: in one line, whatever its length and characters."""
    return repr(name if len(name) <= 80 else name[:77] + "...")


@dataclass(slots=True)
class Cursor:
    """A position in a mapped file; every read raises FormatError instead of leaving the file."""

    mapping: MappedFile
    order: str
    position: int = 0

    @property
    def path(self) -> Path:
        """The file's."""
        return self.mapping.path

    @property
    def buffer(self) -> mmap.mmap:
        """The file's bytes."""
        return self.mapping.buffer

    @property
    def left(self) -> int:
        """Bytes from here to the end of the file."""
        return len(self.buffer) - self.position

    def error(self, problem: str, remedy: str = "the file is damaged, get it again") -> FormatError:
        """The error to raise for `problem` at this position."""
        return FormatError(f"{self.path}: {problem} (at byte {self.position}); {remedy}")

    def advance(self, count: int, what: str) -> int:
        """Step over `count` bytes and return where they start."""
        if count > self.left:
            problem = f"{what} takes {count} bytes, the file has {self.left} left"
            raise self.error(problem, "cut off? get it again")
        start = self.position
        self.position += count
        return start

    def number(self, code: str, what: str) -> Any:
        """The number of `struct` type `code` here."""
        format = self.order + code
        start = self.advance(struct.calcsize(format), what)
        return struct.unpack_from(format, self.buffer, start)[0]

    def count(self, code: str, what: str, item_bytes: int) -> int:
        """A number of items that follow, each of `item_bytes` at least: refused if they cannot be there."""
        count: int = self.number(code, what)
        if not 0 <= count <= min(MAX_ARRAY_LENGTH, self.left // item_bytes):
            raise self.error(f"{what} is {count}, in a file with {self.left} bytes left")
        return count

    def bytes(self, what: str) -> bytes:
        """A string here, not decoded."""
        length: int = self.number("Q", f"length of {what}")
        if length > MAX_STRING_BYTES:
            raise self.error(f"{what} takes {length} bytes, the limit is {MAX_STRING_BYTES}")
        start = self.advance(length, what)
        return self.buffer[start : self.position]

    def name(self, what: str) -> str:
        """A string here that names something: strict UTF-8."""
        data = self.bytes(what)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise self.error(f"{what} is not UTF-8: {data[:40]!r}") from exc

    def skip_strings(self, count: int, what: str) -> int:
        """Check `count` strings, step over them and return where they start."""
        start = self.position
        found, self.position = scan_strings(self.buffer, start, count, self.order)
        if found < count:
            self.bytes(f"a string of {what}")  # raises: this is the string that breaks a rule
        return start

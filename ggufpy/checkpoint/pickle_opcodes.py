"""The opcodes of a pickle with their arguments; only arguments are decoded that weights have.

pickletools.genops decodes those of any opcode, at any length, before it can be refused. Source: Python's
pickletools.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

_Read = Callable[[BytesIO], Any]

_NAMES = {opcode.code.encode("latin-1"): opcode.name for opcode in pickletools.opcodes}


def read_opcodes(stream: BytesIO) -> Iterator[tuple[str, Any]]:
    """Names and arguments up to STOP; the stream then stands behind it.

    Opcodes whose arguments are not decoded come with None, and nothing may be read behind them. Raises
    ValueError where the pickle ends before, or is none.
    """
    while True:
        name = _NAMES.get(stream.read(1))
        if name is None:
            raise ValueError(f"no opcode at byte {stream.tell()}")
        read = _ARGUMENTS.get(name)
        yield name, read(stream) if read else None
        if name == "STOP":
            return


def _take(stream: BytesIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise ValueError(f"no end within {stream.tell()} bytes")
    return data


def _number(code: str) -> _Read:
    """A number of that `struct` type."""
    format = struct.Struct(code)
    return lambda stream: format.unpack(_take(stream, format.size))[0]


def _text(length: _Read) -> _Read:
    return lambda stream: _take(stream, length(stream)).decode()


def _integer(stream: BytesIO) -> int:
    return int.from_bytes(_take(stream, _take(stream, 1)[0]), "little", signed=True)


def _line(stream: BytesIO) -> str:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise ValueError(f"no end within {stream.tell()} bytes")
    return line[:-1].decode()


def _global(stream: BytesIO) -> str:
    """Module and name, each in a line, with a space between them."""
    module, name = _line(stream), _line(stream)
    return f"{module} {name}"


_ARGUMENTS: dict[str, _Read] = {
    **dict.fromkeys(("PROTO", "BINPUT", "BINGET", "BININT1"), _number("<B")),
    "BININT2": _number("<H"),
    "BININT": _number("<i"),
    **dict.fromkeys(("LONG_BINPUT", "LONG_BINGET"), _number("<I")),
    "FRAME": _number("<Q"),
    "BINFLOAT": _number(">d"),
    "LONG1": _integer,
    "SHORT_BINUNICODE": _text(_number("<B")),
    "BINUNICODE": _text(_number("<I")),
    "GLOBAL": _global,
}

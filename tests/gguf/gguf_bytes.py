"""GGUF files spelled out by hand, so that tests can get every part of them wrong."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# The format's own ids of value types.
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)


def string(text: str | bytes, order: str = "<", *, length: int | None = None) -> bytes:
    """A string; `length` is what it claims to have."""
    data = text.encode() if isinstance(text, str) else text
    return struct.pack(order + "Q", len(data) if length is None else length) + data


def entry(key: str | bytes, type: int, payload: bytes, order: str = "<") -> bytes:
    """A metadata entry: key, type id, the bytes of its value."""
    return string(key, order) + struct.pack(order + "I", type) + payload


def array(type: int, count: int, payload: bytes = b"", order: str = "<") -> bytes:
    """The bytes of an array's value: element type id, count, elements."""
    return struct.pack(order + "IQ", type, count) + payload


def tensor(
    name: str | bytes,
    ne: Sequence[int],
    type: int = 0,
    offset: int = 0,
    order: str = "<",
    *,
    n_dims: int | None = None,
) -> bytes:
    """A tensor's entry; ne is in GGUF's order, the row length first."""
    shape = struct.pack(f"{order}{len(ne)}q", *ne)
    count = struct.pack(order + "I", len(ne) if n_dims is None else n_dims)
    return string(name, order) + count + shape + struct.pack(order + "IQ", type, offset)


def gguf_bytes(
    entries: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    order: str = "<",
    version: int = 3,
    n_tensors: int | None = None,
    n_values: int | None = None,
    alignment: int = 32,
) -> bytes:
    """A whole file; the counts are what the header claims."""
    counts = (
        len(tensors) if n_tensors is None else n_tensors,
        len(entries) if n_values is None else n_values,
    )
    head = b"GGUF" + struct.pack(order + "I2q", version, *counts) + b"".join(entries) + b"".join(tensors)
    return head + bytes(-len(head) % alignment if data else 0) + data


def write(folder: Path, data: bytes, name: str = "model.gguf") -> Path:
    """A file with these bytes."""
    path = folder / name
    path.write_bytes(data)
    return path


def u32(key: str, value: int, order: str = "<") -> bytes:
    return entry(key, U32, struct.pack(order + "I", value), order)


def small_file(order: str = "<") -> bytes:
    """A file with a value of every kind and two tensors, whose last byte is a tensor's."""
    words = b"".join(string(word, order) for word in ("a", "", "ä€", b"\xff\xfe"))
    entries = [
        entry("general.architecture", STRING, string("llama", order), order),
        entry("words", ARRAY, array(STRING, 4, words, order), order),
        entry("flags", ARRAY, array(BOOL, 3, b"\1\0\1", order), order),
        entry("shorts", ARRAY, array(I16, 2, struct.pack(order + "2h", -1, 2), order), order),
        entry("scores", ARRAY, array(F32, 2, struct.pack(order + "2f", 0.5, -2), order), order),
        entry("nothing", ARRAY, array(STRING, 0, b"", order), order),
    ]
    scalars: list[tuple[str, int, str, int | float]] = [
        ("u8", U8, "B", 200), ("i8", I8, "b", -100), ("u16", U16, "H", 60000), ("i16", I16, "h", -30000),
        ("u32", U32, "I", 1 << 31), ("i32", I32, "i", -5), ("u64", U64, "Q", 1 << 63),
        ("i64", I64, "q", -1 << 63),
        ("f32", F32, "f", 0.25), ("f64", F64, "d", 0.1), ("yes", BOOL, "B", 1), ("no", BOOL, "B", 0),
    ]  # fmt: skip
    entries += [
        entry(key, type, struct.pack(order + code, value), order) for key, type, code, value in scalars
    ]
    tensors = [tensor("a.weight", [3, 2], 0, 0, order), tensor("b.weight", [8], 0, 32, order)]
    data = np.arange(6, dtype=order + "f4").tobytes().ljust(32, b"\0") + np.ones(8, order + "f4").tobytes()
    return gguf_bytes(entries, tensors, data, order=order)

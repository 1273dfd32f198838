"""Files with floats of 8 bits, which NumPy does not know: bytes that get another type in the header."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NIBBLES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def retyped(folder: Path, types: Mapping[str, str]) -> None:
    """Tensors of bytes whose names end so are of these types."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    for name, entry in header.items():
        for ending, dtype in types.items():
            if name.endswith(ending) and entry.get("dtype") == "U8":
                entry["dtype"] = dtype
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def e4m3(code: int) -> float:
    """One code, by the definition."""
    exponent, mantissa = code >> 3 & 15, code & 7
    magnitude = mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
    return -magnitude if code & 0x80 else magnitude


def e5m2(code: int) -> float:
    """One code, by the definition: the upper half of an f16."""
    return float(np.array([code << 8], np.uint16).view(np.float16)[0])


def values(codes: NDArray[np.uint8], kind: str) -> NDArray[np.float32]:
    """Codes of E4M3 or E5M2, one by one."""
    one = {"F8_E4M3": e4m3, "F8_E5M2": e5m2}[kind]
    table = np.array([one(code) if code & 0x7F < 0x7C else 0 for code in range(256)], np.float32)
    return table[codes]


def random_codes(rng: np.random.Generator, *shape: int) -> NDArray[np.uint8]:
    """Finite numbers around one, of either kind."""
    low = {True: 0x20, False: 0x48}
    codes = rng.integers(low[True], low[False], shape)
    return (codes | rng.integers(0, 2, shape) << 7).astype(np.uint8)

"""Integers of a few bits packed in words of 32: 32 integers of n bits take n words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.gguf.tensors import TensorSource

Words = NDArray[np.uint32]
Codes = NDArray[np.uint8]

# Planes of bits: their widths, and where they stand in an integer.
_PLANES = {
    3: ((2, 0), (1, 2)),
    5: ((4, 0), (1, 4)),
    6: ((4, 0), (2, 4)),
    7: ((4, 0), (2, 4), (1, 6)),
}


def words(source: TensorSource, start: int = 0, stop: int | None = None) -> Words:
    """Rows of a tensor of 32-bit words, or all: (rows, words)."""
    return source.read(start, source.rows if stop is None else stop).view("<u4")


def some_bytes(source: TensorSource, start: int, stop: int) -> NDArray[np.uint8]:
    """A tensor's bytes start..stop, its rows being one behind the other."""
    width = source.row_bytes
    first = start // width
    data = source.read(first, -(-stop // width)).reshape(-1)
    return data[start - first * width : stop - first * width]


def dense(packed: Words, bits: int) -> Codes:
    """All bits of a row are one string, lowest first: (rows, words) -> (rows, 32 * words // bits)."""
    data = np.ascontiguousarray(packed, "<u4").view(np.uint8)
    if bits == 8:
        return data
    if 8 % bits == 0:
        parts = data[..., None] >> np.arange(0, 8, bits, dtype=np.uint8)
        return (parts & np.uint8((1 << bits) - 1)).reshape(len(data), -1)
    rows, n = packed.shape
    padded = np.zeros((rows, -(-n // bits), bits), np.uint32)
    padded.reshape(rows, -1)[:, :n] = packed
    codes = np.empty((rows, padded.shape[1], 32), np.uint8)
    for i in range(32):
        word, shift = divmod(bits * i, 32)
        code = padded[..., word] >> np.uint32(shift)
        if shift + bits > 32:
            code |= padded[..., word + 1] << np.uint32(32 - shift)
        codes[..., i] = code & np.uint32((1 << bits) - 1)
    return codes.reshape(rows, -1)[:, : 32 * n // bits]


def loose(packed: Words, bits: int) -> Codes:
    """As many integers in a word as fit, lowest first: (rows, words) -> (rows, words * (32 // bits))."""
    shifts = bits * np.arange(32 // bits, dtype=np.uint32)
    codes = packed[..., None] >> shifts & np.uint32((1 << bits) - 1)
    return codes.astype(np.uint8).reshape(len(packed), -1)


def planar(packed: Words, bits: int) -> Codes:
    """32 integers' lowest bits, then their next ones: (rows, bits * n) -> (rows, 32 * n).

    Source: GPTQModel utils/planar_packing.py.
    """
    blocks = packed.reshape(-1, bits)
    codes, first = np.zeros((len(blocks), 32), np.uint8), 0
    for width, offset in _PLANES[bits]:
        codes |= dense(blocks[:, first : first + width], width) << np.uint8(offset)
        first += width
    return codes.reshape(len(packed), -1)

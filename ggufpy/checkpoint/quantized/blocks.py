"""Integers and scales put into GGUF's blocks, bit for bit. Layouts: ggml-common.h, block_*."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Halves = NDArray[np.float16]


def q4_0(codes: Bytes, d: Halves) -> Bytes:
    """(code - 8) * d: codes (rows, n) below 16, d (rows, n / 32) -> (rows, bytes)."""
    return _joined(d, halves=_halves(codes, 32))


def q4_1(codes: Bytes, d: Halves, m: Halves) -> Bytes:
    """Code * d + m: codes (rows, n) below 16, d and m (rows, n / 32) -> (rows, bytes)."""
    return _joined(d, m, halves=_halves(codes, 32))


def q5_0(codes: Bytes, d: Halves) -> Bytes:
    """(code - 16) * d: codes (rows, n) below 32, d (rows, n / 32) -> (rows, bytes)."""
    return _joined(d, halves=_fifth_bits_and_halves(codes))


def q5_1(codes: Bytes, d: Halves, m: Halves) -> Bytes:
    """Code * d + m: codes (rows, n) below 32, d and m (rows, n / 32) -> (rows, bytes)."""
    return _joined(d, m, halves=_fifth_bits_and_halves(codes))


def q8_0(values: NDArray[np.int8], d: Halves) -> Bytes:
    """Value * d: values (rows, n), d (rows, n / 32) -> (rows, bytes)."""
    return _joined(d, halves=values.view(np.uint8).reshape(len(values), -1, 32))


def q2_0(codes: Bytes, d: Halves) -> Bytes:
    """(code - 1) * d: codes (rows, n) below 4, d (rows, n / 64) -> (rows, bytes)."""
    fours = codes.reshape(len(codes), -1, 16, 4) << np.array([0, 2, 4, 6], np.uint8)
    return _joined(d, halves=np.bitwise_or.reduce(fours, axis=-1))


def _halves(codes: Bytes, size: int) -> Bytes:
    """Two values in a byte: the first half of a block in the low bits, the second in the high ones."""
    blocks = codes.reshape(len(codes), -1, 2, size // 2)
    return blocks[:, :, 0] | blocks[:, :, 1] << np.uint8(4)


def _fifth_bits_and_halves(codes: Bytes) -> Bytes:
    fifth = np.packbits(codes.reshape(len(codes), -1, 32) >> np.uint8(4), axis=-1, bitorder="little")
    return np.concatenate([fifth, _halves(codes & np.uint8(15), 32)], axis=-1)


def _joined(*heads: Halves, halves: Bytes) -> Bytes:
    """Blocks of f16 numbers (rows, blocks), and bytes (rows, blocks, n)."""
    front = [np.ascontiguousarray(head, "<f2")[..., None].view(np.uint8) for head in heads]
    return np.concatenate([*front, halves], axis=-1).reshape(len(halves), -1)

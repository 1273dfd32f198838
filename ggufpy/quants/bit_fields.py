"""Small integers packed into bytes, as the types of blocks lay them out; `read` and `write` of each kind.

All arrays are (blocks, ...): bytes u8, integers i32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int32]
Bytes = NDArray[np.uint8]

_QUARTERS = np.arange(0, 8, 2, dtype=np.uint8)


def read_halves(data: Bytes) -> NDArray[np.float32]:
    """F16 numbers, of two bytes each."""
    return np.ascontiguousarray(data).view("<f2").astype(np.float32)


def write_halves(values: NDArray[np.float32]) -> Bytes:
    """The inverse of read_halves."""
    return np.ascontiguousarray(values.astype("<f2")).view(np.uint8)


def read_nibbles(data: Bytes, group: int) -> Integers:
    """Integers of 4 bits: of `group` of them the first half is in the low ones of their bytes."""
    parts = data.reshape(len(data), -1, group // 2)
    return np.concatenate((parts & 15, parts >> 4), axis=-1).reshape(len(data), -1).astype(np.int32)


def write_nibbles(values: Integers, group: int) -> Bytes:
    """The inverse of read_nibbles."""
    parts = values.reshape(len(values), -1, 2, group // 2)
    return (parts[:, :, 0] | parts[:, :, 1] << 4).astype(np.uint8).reshape(len(values), -1)


def read_layers(data: Bytes, width: int) -> Integers:
    """Integers of `width` bits: of each 32 bytes the lowest bits are 32 integers, the next ones 32 more."""
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    parts = data.reshape(len(data), -1, 1, 32) >> shifts & ((1 << width) - 1)
    return parts.reshape(len(data), -1).astype(np.int32)


def write_layers(values: Integers, width: int) -> Bytes:
    """The inverse of read_layers; higher bits of the integers are left out."""
    layers = 8 // width
    parts = (values & ((1 << width) - 1)).astype(np.uint8).reshape(len(values), -1, layers, 32)
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    joined: Bytes = np.bitwise_or.reduce(parts << shifts, axis=2)
    return joined.reshape(len(values), -1)


def read_quarters(data: Bytes) -> Integers:
    """Integers of 2 bits, the lowest of the first byte first."""
    return (data[:, :, None] >> _QUARTERS & 3).reshape(len(data), -1).astype(np.int32)


def write_quarters(values: Integers) -> Bytes:
    """The inverse of read_quarters."""
    parts = values.reshape(len(values), -1, 4).astype(np.uint8)
    joined: Bytes = np.bitwise_or.reduce(parts << _QUARTERS, axis=2)
    return joined


def read_digits(data: Bytes) -> Integers:
    """256 digits of base 3 in 52 bytes, as tq1_0 has them: five in a byte, in the last four bytes four.

    A byte is the fraction of 256 that its digits are, rounded up: each product with 3 leaves the rest of the
    digits, and 256 for each that comes.
    """
    places = (data[:, None, :].astype(np.int32) * 3 ** np.arange(5)[:, None] & 255) * 3 >> 8
    parts = (places[:, :, :32], places[:, :, 32:48], places[:, :4, 48:])
    return np.concatenate([part.reshape(len(data), -1) for part in parts], axis=1).astype(np.int32)


def write_digits(values: Integers) -> Bytes:
    """The inverse of read_digits."""
    padded = np.pad(values, ((0, 0), (0, 4)))
    parts = [padded[:, :160].reshape(-1, 5, 32), padded[:, 160:240].reshape(-1, 5, 16)]
    digits = np.concatenate([*parts, padded[:, 240:].reshape(-1, 5, 4)], axis=2)
    number = np.tensordot(digits, 3 ** np.arange(4, -1, -1), (1, 0))
    return ((number * 256 + 242) // 243).astype(np.uint8)


def read_bits(data: Bytes) -> Integers:
    """Single bits, the lowest of the first byte first."""
    return np.unpackbits(data, axis=-1, bitorder="little").astype(np.int32)


def write_bits(values: Integers) -> Bytes:
    """The inverse of read_bits; higher bits of the integers are left out."""
    return np.packbits((values & 1).astype(np.uint8), axis=-1, bitorder="little")


def read_pairs_of_6(data: Bytes) -> tuple[Integers, Integers]:
    """Twice 8 integers of 6 bits in 12 bytes, as q4_K and q5_K have them."""
    first, second, third = (data[:, 4 * i : 4 * i + 4].astype(np.int32) for i in range(3))
    s = np.concatenate((first & 63, third & 15 | first >> 6 << 4), axis=1)
    t = np.concatenate((second & 63, third >> 4 | second >> 6 << 4), axis=1)
    return s, t


def write_pairs_of_6(s: Integers, t: Integers) -> Bytes:
    """The inverse of read_pairs_of_6."""
    high_s, high_t = s[:, 4:] >> 4 << 6, t[:, 4:] >> 4 << 6
    third = s[:, 4:] & 15 | (t[:, 4:] & 15) << 4
    return np.concatenate((s[:, :4] | high_s, t[:, :4] | high_t, third), axis=1).astype(np.uint8)


def read_16_of_6(data: Bytes) -> Integers:
    """16 integers of 6 bits in 12 bytes, as q3_K has them."""
    low = read_nibbles(data[:, :8], 16)
    high = np.concatenate([data[:, 8:] >> shift & 3 for shift in (0, 2, 4, 6)], axis=1)
    return low | high.astype(np.int32) << 4


def write_16_of_6(values: Integers) -> Bytes:
    """The inverse of read_16_of_6."""
    parts = (values >> 4).reshape(-1, 4, 4) << np.array([[0], [2], [4], [6]])
    high = np.bitwise_or.reduce(parts, axis=1).astype(np.uint8)
    return np.concatenate((write_nibbles(values & 15, 16), high), axis=1)


def read_8_of_6(data: Bytes) -> Integers:
    """8 integers of 6 bits in 6 bytes, as iq4_xs has them: the high ones in the first two."""
    words = np.ascontiguousarray(data[:, :2]).view("<u2").astype(np.int32)
    high = words >> 2 * np.arange(8) & 3
    low = np.stack((data[:, 2:] & 15, data[:, 2:] >> 4), axis=-1).reshape(len(data), 8)
    return low.astype(np.int32) | high << 4


def write_8_of_6(values: Integers) -> Bytes:
    """The inverse of read_8_of_6."""
    words = np.bitwise_or.reduce(values >> 4 << 2 * np.arange(8), axis=1, keepdims=True)
    low = (values[:, 0::2] & 15 | (values[:, 1::2] & 15) << 4).astype(np.uint8)
    return np.concatenate((words.astype("<u2").view(np.uint8), low), axis=1)

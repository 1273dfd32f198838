"""Types of blocks as integers and scales, so that whoever searches can move them.

A tensor (rows, n) of such a type is  d * s * levels[q] - m * t:

    d, m  (rows, n / block)  f16 values, one of each for a block
    s, t  (rows, n / sub)    small integers, one of each for a sub-block
    q     (rows, n)          numbers of levels

Types without scales of sub-blocks have s = 1, and those without minimums m = 0. Source of the layouts:
llama.cpp ggml-common.h and ggml-quants.c, dequantize_row_*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ggufpy.gguf.types import GGMLType
from ggufpy.quants import bit_fields as bits

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]
Bytes = NDArray[np.uint8]

_FP4 = (-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12)
_FP4_CODES = np.array([*range(15, 8, -1), *range(8)], np.int32)  # of these levels
_FP4_LEVELS = np.array([*range(7, 15), *range(7, -1, -1)], np.int32)  # of the codes; two are 0
_IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


@dataclass(slots=True)
class Parts:
    """The numbers of a tensor, as above; floats are f32 that f16 can hold."""

    d: Floats
    m: Floats
    s: Integers
    t: Integers
    q: Integers

    def of(self, rows: slice) -> Parts:
        """Views of some rows."""
        return Parts(self.d[rows], self.m[rows], self.s[rows], self.t[rows], self.q[rows])


@dataclass(frozen=True, slots=True)
class Grid:
    """What the numbers of a type can be.

    sub: weights of a sub-block. levels: f32. s_range, t_range: least and most, one value where there is
    nothing to choose. read: the bytes of blocks, (blocks, bytes), as parts (blocks, ...); write: the inverse.
    has_powers: whether d is a power of two, from 2^-128 on, in place of f16.
    """

    type: GGMLType
    sub: int
    levels: Floats
    s_range: tuple[int, int]
    t_range: tuple[int, int]
    read: Callable[[Bytes], Parts]
    write: Callable[[Parts], Iterable[Bytes]]
    has_powers: bool = False

    @property
    def block(self) -> int:
        """Weights of a block."""
        return self.type.block_size

    @property
    def is_flat(self) -> bool:
        """Whether sub-blocks have no scales of their own."""
        return self.s_range[0] == self.s_range[1]

    @property
    def has_minimum(self) -> bool:
        """Whether a block has a smallest value beside its scale."""
        return self.t_range != (0, 0)

    def parts(self, data: Bytes) -> Parts:
        """Rows of blocks, (rows, row_bytes), as numbers."""
        return _reshaped(self.read(data.reshape(-1, self.type.block_bytes)), len(data))

    def data(self, parts: Parts) -> Bytes:
        """The inverse of `parts`."""
        fields = self.write(_reshaped(parts, parts.d.size))
        return np.concatenate(list(fields), axis=1).reshape(len(parts.d), -1)

    def steps(self, parts: Parts) -> tuple[Floats, Floats]:
        """What multiplies the levels of each sub-block, and what is taken off: (rows, n / sub)."""
        per_block = self.block // self.sub
        step = np.repeat(parts.d, per_block, 1) * parts.s.astype(np.float32)
        return step, np.repeat(parts.m, per_block, 1) * parts.t.astype(np.float32)

    def values(self, parts: Parts) -> Floats:
        """The weights: (rows, n)."""
        step, low = self.steps(parts)
        return np.repeat(step, self.sub, 1) * self.levels[parts.q] - np.repeat(low, self.sub, 1)


def _reshaped(parts: Parts, rows: int) -> Parts:
    d, m = (array.reshape(rows, -1) for array in (parts.d, parts.m))
    s, t, q = (array.reshape(rows, -1) for array in (parts.s, parts.t, parts.q))
    return Parts(d, m, s, t, q)


# ---- Types of 32 weights with one scale ----


def _flat(d: Floats, q: Integers, m: Floats | None = None) -> Parts:
    """With a minimum that is added: t is -1."""
    ones = np.ones((len(q), 1), np.int32)
    return Parts(d, np.zeros_like(d), ones, 0 * ones, q) if m is None else Parts(d, m, ones, -ones, q)


def _d(b: Bytes) -> Floats:
    return bits.read_halves(b[:, :2])


def _m(b: Bytes) -> Floats:
    return bits.read_halves(b[:, 2:4])


def _read_fifth(b: Bytes, at: int) -> Integers:
    """Four bits and a fifth."""
    return bits.read_nibbles(b[:, at + 4 :], 32) | bits.read_bits(b[:, at : at + 4]) << 4


def _write_fifth(q: Integers) -> tuple[Bytes, Bytes]:
    return bits.write_bits(q >> 4), bits.write_nibbles(q & 15, 32)


def _read_mxfp4(b: Bytes) -> Parts:
    d = np.ldexp(np.float32(1), b[:, :1].astype(np.int32) - 128)
    return _flat(d, _FP4_LEVELS[bits.read_nibbles(b[:, 1:], 32)])


def _write_mxfp4(p: Parts) -> tuple[Bytes, Bytes]:
    exponents = (np.frexp(p.d)[1] + 127).astype(np.uint8)
    return exponents, bits.write_nibbles(_FP4_CODES[p.q], 32)


# ---- Types of 256 weights ----


def _read_q2_k(b: Bytes) -> Parts:
    scales = b[:, :16].astype(np.int32)
    d, m = bits.read_halves(b[:, 80:82]), bits.read_halves(b[:, 82:84])
    return Parts(d, m, scales & 15, scales >> 4, bits.read_layers(b[:, 16:80], 2))


def _read_q3_k(b: Bytes) -> Parts:
    q = bits.read_layers(b[:, 32:96], 2) | bits.read_layers(b[:, :32], 1) << 2
    return _signed(bits.read_halves(b[:, 108:]), bits.read_16_of_6(b[:, 96:108]) - 32, q)


def _read_q5_k(b: Bytes) -> Parts:
    q = bits.read_nibbles(b[:, 48:], 64) | bits.read_layers(b[:, 16:48], 1) << 4
    return Parts(_d(b), _m(b), *bits.read_pairs_of_6(b[:, 4:16]), q)


def _read_q6_k(b: Bytes) -> Parts:
    q = bits.read_nibbles(b[:, :128], 128) | bits.read_layers(b[:, 128:192], 2) << 4
    scales = np.ascontiguousarray(b[:, 192:208]).view(np.int8).astype(np.int32)
    return _signed(bits.read_halves(b[:, 208:]), scales, q)


def _read_iq4_xs(b: Bytes) -> Parts:
    s = bits.read_8_of_6(b[:, 2:8]) - 32
    return _signed(_d(b), s, bits.read_nibbles(b[:, 8:], 32))


def _signed(d: Floats, s: Integers, q: Integers) -> Parts:
    """Without minimums."""
    return Parts(d, np.zeros_like(d), s, np.zeros_like(s), q)


_half, _nibbles, _layers = bits.write_halves, bits.write_nibbles, bits.write_layers
_ONE, _NONE, _ADDED = (1, 1), (0, 0), (-1, -1)


def _grid(
    type: GGMLType,
    sub: int,
    levels: Iterable[int],
    s_range: tuple[int, int],
    t_range: tuple[int, int],
    read: Callable[[Bytes], Parts],
    write: Callable[[Parts], Iterable[Bytes]],
    has_powers: bool = False,
) -> tuple[GGMLType, Grid]:
    return type, Grid(type, sub, np.array([*levels], np.float32), s_range, t_range, read, write, has_powers)


GRIDS: Mapping[GGMLType, Grid] = dict(
    (
        _grid(
            *(GGMLType.Q4_0, 32, range(-8, 8), _ONE, _NONE),
            lambda b: _flat(_d(b), bits.read_nibbles(b[:, 2:], 32)),
            lambda p: (_half(p.d), _nibbles(p.q, 32)),
        ),
        _grid(
            *(GGMLType.Q4_1, 32, range(16), _ONE, _ADDED),
            lambda b: _flat(_d(b), bits.read_nibbles(b[:, 4:], 32), _m(b)),
            lambda p: (_half(p.d), _half(p.m), _nibbles(p.q, 32)),
        ),
        _grid(
            *(GGMLType.Q5_0, 32, range(-16, 16), _ONE, _NONE),
            lambda b: _flat(_d(b), _read_fifth(b, 2)),
            lambda p: (_half(p.d), *_write_fifth(p.q)),
        ),
        _grid(
            *(GGMLType.Q5_1, 32, range(32), _ONE, _ADDED),
            lambda b: _flat(_d(b), _read_fifth(b, 4), _m(b)),
            lambda p: (_half(p.d), _half(p.m), *_write_fifth(p.q)),
        ),
        _grid(
            *(GGMLType.Q8_0, 32, range(-128, 128), _ONE, _NONE),
            lambda b: _flat(_d(b), np.ascontiguousarray(b[:, 2:]).view(np.int8).astype(np.int32) + 128),
            lambda p: (_half(p.d), (p.q - 128).astype(np.int8).view(np.uint8)),
        ),
        _grid(
            *(GGMLType.IQ4_NL, 32, _IQ4, _ONE, _NONE),
            lambda b: _flat(_d(b), bits.read_nibbles(b[:, 2:], 32)),
            lambda p: (_half(p.d), _nibbles(p.q, 32)),
        ),
        _grid(
            *(GGMLType.MXFP4, 32, _FP4, _ONE, _NONE),
            *(_read_mxfp4, _write_mxfp4, True),
        ),
        _grid(
            *(GGMLType.Q1_0, 128, (-1, 1), _ONE, _NONE),
            lambda b: _flat(_d(b), bits.read_bits(b[:, 2:])),
            lambda p: (_half(p.d), bits.write_bits(p.q)),
        ),
        _grid(
            *(GGMLType.Q2_0, 64, range(-1, 3), _ONE, _NONE),
            lambda b: _flat(_d(b), bits.read_quarters(b[:, 2:])),
            lambda p: (_half(p.d), bits.write_quarters(p.q)),
        ),
        _grid(
            *(GGMLType.TQ1_0, 256, range(-1, 2), _ONE, _NONE),
            lambda b: _flat(bits.read_halves(b[:, 52:]), bits.read_digits(b[:, :52])),
            lambda p: (bits.write_digits(p.q), _half(p.d)),
        ),
        _grid(
            *(GGMLType.TQ2_0, 256, range(-1, 2), _ONE, _NONE),
            lambda b: _flat(bits.read_halves(b[:, 64:]), bits.read_layers(b[:, :64], 2)),
            lambda p: (_layers(p.q, 2), _half(p.d)),
        ),
        _grid(
            *(GGMLType.Q2_K, 16, range(4), (0, 15), (0, 15)),
            _read_q2_k,
            lambda p: ((p.s | p.t << 4).astype(np.uint8), _layers(p.q, 2), _half(p.d), _half(p.m)),
        ),
        _grid(
            *(GGMLType.Q3_K, 16, range(-4, 4), (-32, 31), _NONE),
            _read_q3_k,
            lambda p: (_layers(p.q >> 2, 1), _layers(p.q, 2), bits.write_16_of_6(p.s + 32), _half(p.d)),
        ),
        _grid(
            *(GGMLType.Q4_K, 32, range(16), (0, 63), (0, 63)),
            lambda b: Parts(
                _d(b), _m(b), *bits.read_pairs_of_6(b[:, 4:16]), bits.read_nibbles(b[:, 16:], 64)
            ),
            lambda p: (_half(p.d), _half(p.m), bits.write_pairs_of_6(p.s, p.t), _nibbles(p.q, 64)),
        ),
        _grid(
            *(GGMLType.Q5_K, 32, range(32), (0, 63), (0, 63)),
            _read_q5_k,
            lambda p: (
                *(_half(p.d), _half(p.m), bits.write_pairs_of_6(p.s, p.t)),
                *(_layers(p.q >> 4, 1), _nibbles(p.q & 15, 64)),
            ),
        ),
        _grid(
            *(GGMLType.Q6_K, 16, range(-32, 32), (-128, 127), _NONE),
            _read_q6_k,
            lambda p: (
                *(_nibbles(p.q & 15, 128), _layers(p.q >> 4, 2)),
                *(p.s.astype(np.int8).view(np.uint8), _half(p.d)),
            ),
        ),
        _grid(
            *(GGMLType.IQ4_XS, 32, _IQ4, (-32, 31), _NONE),
            _read_iq4_xs,
            lambda p: (_half(p.d), bits.write_8_of_6(p.s + 32), _nibbles(p.q, 32)),
        ),
    )
)

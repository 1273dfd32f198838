"""Types whose weights are signed points of a grid, as integers and scales, so that a search can move them.

A tensor (rows, n) of such a type is  d * (2 s + 1) * (+- points[p] + shift), with

    d      (rows, n / 256)   f16 values
    s      (rows, n / sub)   small integers; in iq1_s they say which shift, too
    p      (rows, n / dims)  numbers of points, each of `dims` levels
    signs  (rows, n / 8)     bit i: weight i of 8 is negative; of some types an even number of them

Source of the layouts: llama.cpp ggml-common.h and ggml-quants.c, dequantize_row_*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ggufpy.gguf.types import GGMLType
from ggufpy.quants import bit_fields as bits
from ggufpy.quants.formats.iq_grids import grid

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]
Bytes = NDArray[np.uint8]

BLOCK = 256  # weights that share d

_SHIFT = 0.125
_FOURS, _SEVENS, _THREES = 4 * np.arange(4), 7 * np.arange(4), 3 * np.arange(4)  # places of bits


@dataclass(slots=True)
class Points:
    """The numbers of a tensor, as above; d is f32 that f16 can hold."""

    d: Floats
    s: Integers
    p: Integers
    signs: Integers

    def of(self, rows: slice) -> Points:
        """Views of some rows."""
        return Points(self.d[rows], self.s[rows], self.p[rows], self.signs[rows])


@dataclass(frozen=True, slots=True)
class Codebook:
    """What the numbers of a type can be.

    sub: weights that share s. points: (points, dims). factors, shifts: of each s. has_signs, is_even: whether
    weights have signs, and of 8 an even number. read: the bytes of blocks, (blocks, bytes), as numbers
    (blocks, ...); write: the inverse.
    """

    type: GGMLType
    sub: int
    points: Floats
    factors: Floats
    shifts: Floats
    has_signs: bool
    is_even: bool
    read: Callable[[Bytes], Points]
    write: Callable[[Points], Iterable[Bytes]]

    @property
    def dims(self) -> int:
        """Weights of a point."""
        return int(self.points.shape[1])

    def parts(self, data: Bytes) -> Points:
        """Rows of blocks, (rows, row_bytes), as numbers."""
        return _reshaped(self.read(data.reshape(-1, self.type.block_bytes)), len(data))

    def data(self, parts: Points) -> Bytes:
        """The inverse of `parts`."""
        fields = self.write(_reshaped(parts, parts.d.size))
        return np.concatenate(list(fields), axis=1).reshape(len(parts.d), -1)

    def values(self, parts: Points) -> Floats:
        """The weights: (rows, n)."""
        rows = len(parts.d)
        levels = self.points[parts.p].reshape(rows, -1)
        negative = parts.signs[:, :, None] >> np.arange(8) & 1
        levels *= (1 - 2 * negative).reshape(rows, -1).astype(np.float32)
        levels += np.repeat(self.shifts[parts.s], self.sub, 1)
        step = np.repeat(parts.d, BLOCK // self.sub, 1) * self.factors[parts.s]
        return levels * np.repeat(step, self.sub, 1)


def _reshaped(parts: Points, rows: int) -> Points:
    d, s = parts.d.reshape(rows, -1), parts.s.reshape(rows, -1)
    return Points(d, s, parts.p.reshape(rows, -1), parts.signs.reshape(rows, -1))


# ---- Layouts ----


def _d(b: Bytes) -> Floats:
    return bits.read_halves(b[:, :2])


def _words(b: Bytes, kind: str) -> NDArray[np.int64]:
    return np.ascontiguousarray(b).view(kind).astype(np.int64)


def _fields(words: NDArray[np.int64], places: NDArray[np.int64], width: int) -> Integers:
    """Of each word the integers of `width` bits at some places."""
    found = words[:, :, None] >> places & ((1 << width) - 1)
    return found.reshape(len(words), -1).astype(np.int32)


def _joined(values: Integers, places: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """The inverse of _fields; higher bits of the integers are left out."""
    parts = values.reshape(len(values), -1, len(places)).astype(np.int64) & ((1 << width) - 1)
    words: NDArray[np.int64] = np.bitwise_or.reduce(parts << places, axis=2)
    return words


def _bytes(words: NDArray[np.int64], kind: str) -> Bytes:
    return np.ascontiguousarray(words.astype(kind)).view(np.uint8)


def _low(values: Integers) -> Bytes:
    return (values & 255).astype(np.uint8)


def _even(signs: Integers) -> Integers:
    """Seven signs and the eighth that makes their number even."""
    parity = signs ^ signs >> 4
    parity ^= parity >> 2
    return signs | ((parity ^ parity >> 1) & 1) << 7


def _read_signs_and_scales(b: Bytes) -> tuple[Integers, Integers]:
    """Words of four times 7 signs and 4 bits of s."""
    words = _words(b, "<u4")
    return (words >> 28).astype(np.int32), _even(_fields(words, _SEVENS, 7))


def _write_signs_and_scales(p: Points) -> Bytes:
    return _bytes(_joined(p.signs, _SEVENS, 7) | p.s.astype(np.int64) << 28, "<u4")


def _read_iq2_xxs(b: Bytes) -> Points:
    parts = b[:, 2:].reshape(len(b), 8, 8)
    s, signs = _read_signs_and_scales(parts[:, :, 4:].reshape(len(b), -1))
    return Points(_d(b), s, parts[:, :, :4].reshape(len(b), -1).astype(np.int32), signs)


def _write_iq2_xxs(p: Points) -> tuple[Bytes, Bytes]:
    points, words = (each.reshape(-1, 8, 4) for each in (_low(p.p), _write_signs_and_scales(p)))
    return bits.write_halves(p.d), np.concatenate((points, words), axis=2).reshape(len(p.p), -1)


def _read_iq2_xs(b: Bytes) -> Points:
    words = _words(b[:, 2:66], "<u2").astype(np.int32)
    return Points(_d(b), bits.read_nibbles(b[:, 66:], 2), words & 511, _even(words >> 9))


def _write_iq2_xs(p: Points) -> tuple[Bytes, Bytes, Bytes]:
    words = _bytes(p.p.astype(np.int64) | (p.signs.astype(np.int64) & 127) << 9, "<u2")
    return bits.write_halves(p.d), words, bits.write_nibbles(p.s, 2)


def _read_iq2_s(b: Bytes) -> Points:
    p = b[:, 2:34].astype(np.int32) | bits.read_quarters(b[:, 66:74]) << 8
    return Points(_d(b), bits.read_nibbles(b[:, 74:], 2), p, b[:, 34:66].astype(np.int32))


def _write_iq2_s(p: Points) -> tuple[Bytes, ...]:
    high = bits.write_quarters(p.p >> 8)
    return bits.write_halves(p.d), _low(p.p), _low(p.signs), high, bits.write_nibbles(p.s, 2)


def _read_iq3_xxs(b: Bytes) -> Points:
    s, signs = _read_signs_and_scales(b[:, 66:])
    return Points(_d(b), s, b[:, 2:66].astype(np.int32), signs)


def _write_iq3_xxs(p: Points) -> tuple[Bytes, Bytes, Bytes]:
    return bits.write_halves(p.d), _low(p.p), _write_signs_and_scales(p)


def _read_iq3_s(b: Bytes) -> Points:
    p = b[:, 2:66].astype(np.int32) | bits.read_bits(b[:, 66:74]) << 8
    return Points(_d(b), bits.read_nibbles(b[:, 106:], 2), p, b[:, 74:106].astype(np.int32))


def _write_iq3_s(p: Points) -> tuple[Bytes, ...]:
    high = bits.write_bits(p.p >> 8)
    return bits.write_halves(p.d), _low(p.p), high, _low(p.signs), bits.write_nibbles(p.s, 2)


def _read_iq1_s(b: Bytes) -> Points:
    words = _words(b[:, 34:], "<u2")
    p = b[:, 2:34].astype(np.int32) | _fields(words, _THREES, 3) << 8
    return Points(_d(b), (words >> 12).astype(np.int32), p, np.zeros_like(p))


def _write_iq1_s(p: Points) -> tuple[Bytes, Bytes, Bytes]:
    words = _joined(p.p >> 8, _THREES, 3) | p.s.astype(np.int64) << 12
    return bits.write_halves(p.d), _low(p.p), _bytes(words, "<u2")


def _read_iq1_m(b: Bytes) -> Points:
    p = b[:, :32].astype(np.int32) | bits.read_nibbles(b[:, 32:48], 2) << 8
    words = _words(b[:, 48:], "<u2")
    d = np.bitwise_or.reduce(words >> 12 << _FOURS, axis=1, keepdims=True)
    return Points(bits.read_halves(_bytes(d, "<u2")), _fields(words, _THREES, 3), p, np.zeros_like(p))


def _write_iq1_m(p: Points) -> tuple[Bytes, Bytes, Bytes]:
    d = _words(bits.write_halves(p.d), "<u2")
    words = _joined(p.s, _THREES, 3) | (d >> _FOURS & 15) << 12
    return _low(p.p), bits.write_nibbles(p.p >> 8, 2), _bytes(words, "<u2")


# ---- Types ----


def _points(name: str, *sizes: float) -> Floats:
    """The points of a grid, each level of the size that it stands for."""
    return np.array(sizes, np.float32)[(grid(name).levels.astype(np.int32) - 1) // 2]


def _codebook(
    type: GGMLType,
    sub: int,
    points: Floats,
    read: Callable[[Bytes], Points],
    write: Callable[[Points], Iterable[Bytes]],
    *,
    is_even: bool = False,
) -> tuple[GGMLType, Codebook]:
    """With signs and 16 scales."""
    factors = np.arange(1, 32, 2, dtype=np.float32)
    return type, Codebook(type, sub, points, factors, np.zeros_like(factors), True, is_even, read, write)


def _iq1_codebooks() -> Iterable[tuple[GGMLType, Codebook]]:
    """Without signs, but shifted up or down: 32 weights together, or each point by itself."""
    points, factors = _points("iq1", -1, 0, 1), np.arange(1, 16, 2, dtype=np.float32)
    up = np.full(8, _SHIFT, np.float32)
    iq1_s = (points, np.tile(factors, 2), np.concatenate((up, -up)), False, False, _read_iq1_s, _write_iq1_s)
    yield GGMLType.IQ1_S, Codebook(GGMLType.IQ1_S, 32, *iq1_s)
    shifted = np.concatenate((points + up, points - up))
    iq1_m = (shifted, factors, 0 * up, False, False, _read_iq1_m, _write_iq1_m)
    yield GGMLType.IQ1_M, Codebook(GGMLType.IQ1_M, 16, *iq1_m)


_SIZES2 = (1, 3.125, 5.375)
_SIZES3 = (1, 3, 5, 7, 9, 11, 13)
_T = GGMLType

CODEBOOKS: Mapping[GGMLType, Codebook] = dict(
    (
        _codebook(
            *(_T.IQ2_XXS, 32, _points("iq2_xxs", *_SIZES2), _read_iq2_xxs, _write_iq2_xxs), is_even=True
        ),
        _codebook(*(_T.IQ2_XS, 16, _points("iq2_xs", *_SIZES2), _read_iq2_xs, _write_iq2_xs), is_even=True),
        _codebook(_T.IQ2_S, 16, _points("iq2_s", *_SIZES2), _read_iq2_s, _write_iq2_s),
        _codebook(
            *(_T.IQ3_XXS, 32, _points("iq3_xxs", *_SIZES3, 15.5), _read_iq3_xxs, _write_iq3_xxs),
            is_even=True,
        ),
        _codebook(_T.IQ3_S, 32, _points("iq3_s", *_SIZES3, 15), _read_iq3_s, _write_iq3_s),
        *_iq1_codebooks(),
    )
)

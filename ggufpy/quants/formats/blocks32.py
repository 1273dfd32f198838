"""Block types of 32 weights: q8_0, q4_0, q4_1, q5_0, q5_1.

A block holds an f16 scale d, in q?_1 an f16 minimum m, and 32 integers q. A weight is d * q in q8_0, d * (q -
8) in q4_0, d * (q - 16) in q5_0, d * q + m in q4_1 and q5_1. Each encoder packs x (rows, n), finite, n % 32
== 0, into out (rows, n / 32 * bytes of a block), blind to the weights of columns;
blocks32_weighted sees them.
Source: llama.cpp ggml-quants.c, quantize_row_*_ref; layout: ggml-common.h, block_*.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.floats import put_f16
from ggufpy.quants.formats.lanes import LANES, greatest_lane, least_lane, load, select, store_bytes

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@compiled
def encode_q8_0(x: Floats, weights: Floats, out: Bytes) -> None:
    """f16 d, 32 int8; the largest magnitude becomes 127, halves are rounded away from zero."""
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 32):
            block, to = x[row, 32 * b : 32 * b + 32], out[row, 34 * b : 34 * b + 34]
            d = np.abs(_extreme(block)) / np.float32(127)
            put_f16(to, d)
            per_step = _inverse(d)
            if not np.isfinite(per_step):
                per_step = np.float32(0)
            for i in range(32):
                steps = block[i] * per_step
                magnitude = np.abs(steps)
                q = np.int32(magnitude)
                if magnitude - np.float32(q) >= np.float32(0.5):
                    q += np.int32(1)
                to[2 + i] = np.uint8(-q if steps < 0 else q)


@compiled
def encode_q4_0(x: Floats, weights: Floats, out: Bytes) -> None:
    """f16 d, 32 nibbles; the weight of largest magnitude becomes 0."""
    q = np.empty(32, np.uint8)
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 32):
            block, to = x[row, 32 * b : 32 * b + 32], out[row, 18 * b : 18 * b + 18]
            d = _extreme(block) / np.float32(-8)
            _round_block(block, np.float32(0), d, np.float32(8.5), 15, q)
            put_f16(to, d)
            put_nibbles(to[2:], q)


@compiled
def encode_q4_1(x: Floats, weights: Floats, out: Bytes) -> None:
    """f16 d, f16 m, 32 nibbles; the least weight becomes 0, the greatest 15."""
    q = np.empty(32, np.uint8)
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 32):
            block, to = x[row, 32 * b : 32 * b + 32], out[row, 20 * b : 20 * b + 20]
            least, greatest = _range(block)
            d = (greatest - least) / np.float32(15)
            _round_block(block, least, d, np.float32(0.5), 15, q)
            put_f16(to, d)
            put_f16(to[2:], least)
            put_nibbles(to[4:], q)


@compiled
def encode_q5_0(x: Floats, weights: Floats, out: Bytes) -> None:
    """f16 d, 32 fifth bits, 32 nibbles; the weight of largest magnitude becomes 0."""
    q = np.empty(32, np.uint8)
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 32):
            block, to = x[row, 32 * b : 32 * b + 32], out[row, 22 * b : 22 * b + 22]
            d = _extreme(block) / np.float32(-16)
            _round_block(block, np.float32(0), d, np.float32(16.5), 31, q)
            put_f16(to, d)
            put_fifth_bits(to[2:], q)
            put_nibbles(to[6:], q)


@compiled
def encode_q5_1(x: Floats, weights: Floats, out: Bytes) -> None:
    """f16 d, f16 m, 32 fifth bits, 32 nibbles; the least weight becomes 0, the greatest 31."""
    q = np.empty(32, np.uint8)
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 32):
            block, to = x[row, 32 * b : 32 * b + 32], out[row, 24 * b : 24 * b + 24]
            least, greatest = _range(block)
            d = (greatest - least) / np.float32(31)
            _round_block(block, least, d, np.float32(0.5), 31, q)
            put_f16(to, d)
            put_f16(to[2:], least)
            put_fifth_bits(to[4:], q)
            put_nibbles(to[8:], q)


@compiled
def _extreme(block: Floats) -> np.float32:
    """The first weight of largest magnitude."""
    least, greatest = _range(block)
    if greatest > -least:
        return greatest
    if greatest < -least:
        return least
    i = 0
    while np.abs(block[i]) != greatest:
        i += 1
    extreme: np.float32 = block[i]
    return extreme


@compiled
def _range(block: Floats) -> tuple[np.float32, np.float32]:
    """The least and the greatest weight."""
    a, b = load(block, 0), load(block, LANES)
    return least_lane(select(a < b, a, b)), greatest_lane(select(a > b, a, b))


@compiled
def _inverse(d: np.float32) -> np.float32:
    """1 / d, and 0 for 0; Inf where d is too small to have an inverse."""
    return np.float32(0) if d == 0 else np.float32(1) / d


@compiled
def _round_block(
    block: Floats, zero: np.float32, d: np.float32, half: np.float32, top: int, q: Bytes
) -> None:
    """Let q be (block - zero) / d + half, truncated, at most `top`; 0 if d or its inverse is beyond f32."""
    per_step, most = _inverse(d), np.float32(top)
    if np.isfinite(per_step) and np.isfinite(d):
        for i in range(0, 32, LANES):
            level = (load(block, i) - zero) * per_step + half
            store_bytes(q, i, select(level > most, most, level))
    else:
        q[:] = 0


@compiled
def put_nibbles(to: Bytes, q: Bytes) -> None:
    """Low four bits: weights i and i + 16 share byte i."""
    for i in range(16):
        to[i] = (q[i] & np.uint8(15)) | (q[i + 16] << np.uint8(4))


@compiled
def put_fifth_bits(to: Bytes, q: Bytes) -> None:
    """Bit i % 8 of byte i / 8 is bit 4 of weight i."""
    for byte in range(4):
        bits = np.uint8(0)
        for i in range(8):
            bits |= (q[8 * byte + i] >> np.uint8(4)) << np.uint8(i)
        to[byte] = bits

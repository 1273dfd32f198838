"""q4_0, q4_1, q5_0, q5_1 where errors in some columns count more than in others: a search for each scale.

x (rows, n), weights (n,), out: as in blocks32. An error in x counts weight * sqrt(mean square of row + x^2).
trials: how far to `refine` what llama.cpp finds, if at all.
Source: llama.cpp ggml-quants.c, quantize_row_q4_0_impl and its like.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.blocks32 import put_fifth_bits, put_nibbles
from ggufpy.quants.formats.blocks32_refine import refine
from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.floats import put_f16
from ggufpy.quants.formats.k_search import ONE, ZERO, columns, search_scale, search_scale_min
from ggufpy.quants.formats.lanes import LANES, load, splat, square_root, store

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

BLOCK = 32
BATCH = LANES * BLOCK


def encode_q4_0(x: Floats, weights: Floats, out: Bytes, trials: int | None = None) -> None:
    """The layout of `blocks32.encode_q4_0`."""
    _encode(x, weights, out, 4, False, trials)


def encode_q4_1(x: Floats, weights: Floats, out: Bytes, trials: int | None = None) -> None:
    """The layout of `blocks32.encode_q4_1`."""
    _encode(x, weights, out, 4, True, trials)


def encode_q5_0(x: Floats, weights: Floats, out: Bytes, trials: int | None = None) -> None:
    """The layout of `blocks32.encode_q5_0`."""
    _encode(x, weights, out, 5, False, trials)


def encode_q5_1(x: Floats, weights: Floats, out: Bytes, trials: int | None = None) -> None:
    """The layout of `blocks32.encode_q5_1`."""
    _encode(x, weights, out, 5, True, trials)


@compiled
def _encode(x: Floats, weights: Floats, out: Bytes, bits: int, with_min: bool, trials: int | None) -> None:
    rows, n = x.shape
    row_blocks = n // BLOCK
    values, w = np.zeros(BATCH, np.float32), np.zeros(BATCH, np.float32)
    levels = np.empty(BATCH, np.float32)
    d, m = np.empty(LANES, np.float32), np.zeros(LANES, np.float32)
    for row in range(rows):
        mean_square = _mean_square(x[row])
        for first in range(0, row_blocks, LANES):
            count = min(LANES, row_blocks - first)
            start, stop = BLOCK * first, BLOCK * (first + count)
            _read_batch(x[row], weights, start, stop, values, w)
            _fit(values, w, mean_square, bits, with_min, levels, d, m)
            if trials is not None:
                top = np.float32(1 << (bits - 1))
                least, most = (ZERO, top + top - ONE) if with_min else (-top, top - ONE)
                refine(values, w, least, most, with_min, trials, levels, d, m)
            size = out.shape[1] // row_blocks
            for b in range(count):
                to = out[row, size * (first + b) : size * (first + b + 1)]
                _pack(levels[b:], bits, with_min, d[b], m[b], to)


@compiled
def _read_batch(
    x: Floats, weights: Floats, start: int, stop: int, values: Floats, importance: Floats
) -> None:
    """Copy columns start..stop and their weights, without any all alike; the rest of the values are zeros."""
    for i in range(0, BATCH, LANES):
        inside = i < stop - start
        store(values, i, load(x, start + i) if inside else splat(ZERO))
        store(importance, i, load(weights, start + i) if inside and weights.size > 0 else splat(ONE))


@compiled
def _mean_square(x: Floats) -> np.float32:
    total = ZERO
    for i in range(x.size):
        total += x[i] * x[i]
    return np.float32(total / np.float32(x.size))


@compiled
def _fit(
    values: Floats,
    importance: Floats,
    mean_square: np.float32,
    bits: int,
    with_min: bool,
    levels: Floats,
    d: Floats,
    m: Floats,
) -> None:
    """Scales d and minima m of 16 blocks; `levels` in columns."""
    x, w = np.empty(BATCH, np.float32), np.empty(BATCH, np.float32)
    columns(values, 0, BLOCK, x)
    columns(importance, 0, BLOCK, w)
    for i in range(0, BATCH, LANES):
        value = load(x, i)
        store(w, i, load(w, i) * square_root(mean_square + value * value))
    if with_min:
        top, first, step = np.float32((1 << bits) - 1), np.float32(-0.9), np.float32(0.05)
        scale, low = search_scale_min(x, w, BLOCK, top, first, step, 36, False, levels)
        store(d, 0, scale)
        store(m, 0, ZERO - low)
    else:
        store(d, 0, search_scale(x, w, BLOCK, np.float32(1 << (bits - 1)), levels))


@compiled
def _pack(levels: Floats, bits: int, with_min: bool, d: np.float32, m: np.float32, to: Bytes) -> None:
    q = np.empty(BLOCK, np.uint8)
    for i in range(BLOCK):
        q[i] = np.uint8(levels[LANES * i])
    put_f16(to, d)
    at = 2
    if with_min:
        put_f16(to[2:], m)
        at = 4
    if bits == 5:
        put_fifth_bits(to[at:], q)
        at += 4
    put_nibbles(to[at:], q)

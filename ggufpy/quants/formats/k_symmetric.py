"""Block types of 256 weights whose sub-blocks have a scale only: q3_K, q6_K.

A block holds f16 d, for each of 16 sub-blocks a few bits of scale s, and 256 integers q. A weight is d * s *
q. The encoders are as those in k_with_min.
Source: llama.cpp ggml-quants.c, quantize_row_*_K_ref without weights, quantize_row_*_K_impl with them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.floats import put_f16
from ggufpy.quants.formats.k_batch import (
    BATCH,
    BLOCK,
    column_sums,
    read_batch,
    read_weights,
    round_sub_block,
    weigh,
)
from ggufpy.quants.formats.k_packing import pack_q3, pack_q6
from ggufpy.quants.formats.k_refine import refine
from ggufpy.quants.formats.k_search import (
    NOTHING,
    ONE,
    ZERO,
    clamp,
    columns,
    descend,
    extreme,
    nearest,
    search_scale,
)
from ggufpy.quants.formats.lanes import LANES, F32x16, load, magnitude, select, store

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def encode_q3_k(x: Floats, weights: Floats, out: Bytes, rounds: int | None = None) -> None:
    """32 bytes of third bits, 64 of the others, 12 of 6-bit s, f16 d; sub-blocks of 16, q in -4..3."""
    _encode_symmetric(x.reshape(-1), weights, out.reshape(-1, 110), 3, rounds)


def encode_q6_k(x: Floats, weights: Floats, out: Bytes, rounds: int | None = None) -> None:
    """128 bytes of low nibbles, 64 of the other bits, 16 of s, f16 d; sub-blocks of 16, q in -32..31."""
    _encode_symmetric(x.reshape(-1), weights, out.reshape(-1, 210), 6, rounds)


@compiled
def _encode_symmetric(flat: Floats, weights: Floats, out: Bytes, bits: int, rounds: int | None) -> None:
    top, most = np.float32(1 << (bits - 1)), np.float32(32 if bits == 3 else 128)
    values, importance = np.empty(BATCH, np.float32), np.empty(BATCH, np.float32)
    levels = np.empty(BATCH, np.float32)
    scales = np.empty(BATCH // 16, np.float32)
    sums = np.empty(BATCH // 16, np.float32)
    s = np.empty(BATCH // 16, np.float32)
    d, m, t = np.empty(LANES, np.float32), np.zeros(LANES, np.float32), np.zeros(BATCH // 16, np.float32)
    for first in range(0, out.shape[0], LANES):
        count = min(LANES, out.shape[0] - first)
        read_batch(flat, weights, first, count, values, importance)
        _fit_sub_blocks(values, importance, weights.size > 0, bits, scales, sums, levels)
        if bits == 3 and weights.size > 0:
            _fit_signed_block_weighted(scales, sums, d, s)
        else:
            _fit_signed_block(scales, most, ZERO if bits == 3 else NOTHING, d, s)
        if rounds is not None:
            read_weights(weights, first, importance)
            refine(values, importance, 16, (-top, top - ONE), (-most, most - ONE), False, d, m, s, t, rounds)
        for b in range(count):
            _write_block(values, levels, b, bits, d[b], s[b:], out[first + b])


@compiled
def _write_block(
    values: Floats, levels: Floats, b: int, bits: int, d: np.float32, s: Floats, to: Bytes
) -> None:
    """Round and pack block `b` of a batch."""
    if bits == 6 and d == ZERO:
        for i in range(to.size):
            to[i] = 0
        return
    q = np.empty(BLOCK, np.uint8)
    top = np.float32(1 << (bits - 1))
    d = put_f16(to[108:] if bits == 3 else to[208:], d)
    for j in range(16):
        step = d * s[LANES * j]
        round_sub_block(values, BLOCK * b + 16 * j, 16, step, ZERO, -top, top - ONE, levels, q)
    if bits == 3:
        pack_q3(q, s, to)
    else:
        pack_q6(q, s, to)


@compiled
def _fit_sub_blocks(
    values: Floats,
    importance: Floats,
    weighted: bool,
    bits: int,
    scales: Floats,
    sums: Floats,
    levels: Floats,
) -> None:
    """Fit every sub-block of a batch by itself; `levels` in columns."""
    n = 16
    x, w = np.empty(LANES * n, np.float32), np.empty(LANES * n, np.float32)
    if weighted and bits == 3:
        weigh(values, np.float32(2), importance)
    for group in range(BATCH // (LANES * n)):
        start = LANES * n * group
        columns(values, start, n, x)
        if weighted:
            columns(importance, start, n, w)
        else:
            for i in range(n):
                value = load(x, LANES * i)
                store(w, LANES * i, value * value)
        if bits == 3 and not weighted:
            scale = _descend_from_extreme(x, w, n, np.float32(4), levels[start:])
        else:
            scale = search_scale(x, w, n, np.float32(4 if bits == 3 else 32), levels[start:])
        store(scales, LANES * group, scale)
        store(sums, LANES * group, column_sums(w, n))


@compiled
def _descend_from_extreme(x: Floats, w: Floats, n: int, top: np.float32, levels: Floats) -> F32x16:
    """`descend` for levels -top..top-1 from where the extreme weight is -top; stores level + top."""
    peak = extreme(x, n)
    for i in range(n):
        store(levels, LANES * i, clamp(nearest((-top / peak) * load(x, LANES * i)), -top, top - ONE))
    scale = descend(x, w, n, -top, top - ONE, levels)
    empty = magnitude(peak) < NOTHING
    for i in range(n):
        store(levels, LANES * i, select(empty, ZERO, load(levels, LANES * i) + top))
    return select(empty, ZERO, scale)


@compiled
def _fit_signed_block(scales: Floats, top: np.float32, nothing: np.float32, d: Floats, s: Floats) -> None:
    """Make the scale of largest magnitude -top steps of d; s: the scales in steps, in columns."""
    x = np.empty(LANES * 16, np.float32)
    columns(scales, 0, 16, x)
    peak = extreme(x, 16)
    empty = magnitude(peak) <= nothing
    per_step = -top / peak
    for j in range(16):
        steps = clamp(nearest(per_step * load(x, LANES * j)), -top, top - ONE)
        store(s, LANES * j, select(empty, -top, steps))
    store(d, 0, select(empty, ZERO, ONE / per_step))


@compiled
def _fit_signed_block_weighted(scales: Floats, sums: Floats, d: Floats, s: Floats) -> None:
    x, w = np.empty(LANES * 16, np.float32), np.empty(LANES * 16, np.float32)
    columns(scales, 0, 16, x)
    columns(sums, 0, 16, w)
    store(d, 0, search_scale(x, w, 16, np.float32(32), s))
    for j in range(16):
        store(s, LANES * j, load(s, LANES * j) - np.float32(32))

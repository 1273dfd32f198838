"""Block types of 256 weights whose sub-blocks have a scale and a minimum: q2_K, q4_K, q5_K.

A block holds f16 d and m, for each sub-block a few bits of scale s and of minimum t, and 256 integers q. A
weight is d * s * q - m * t. Each encoder packs x (rows, n), finite, n % 256 == 0, into out; weights: (n,) or
empty; rounds: how often to `refine` what llama.cpp finds, if at all.
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
from ggufpy.quants.formats.k_packing import pack_q2, pack_q4_k, pack_q5_k
from ggufpy.quants.formats.k_refine import refine
from ggufpy.quants.formats.k_search import (
    ONE,
    ZERO,
    clamp,
    columns,
    nearest,
    search_positive_scale,
    search_scale_min,
)
from ggufpy.quants.formats.lanes import (
    LANES,
    load,
    load_strided,
    magnitude,
    select,
    splat,
    square_root,
    store,
)

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def encode_q2_k(x: Floats, weights: Floats, out: Bytes, rounds: int | None = None) -> None:
    """16 bytes of s | t << 4, 64 bytes of q, f16 d, f16 m; sub-blocks of 16, q in 0..3."""
    _encode_with_min(x.reshape(-1), weights, out.reshape(-1, 84), 2, 16, rounds)


def encode_q4_k(x: Floats, weights: Floats, out: Bytes, rounds: int | None = None) -> None:
    """f16 d, f16 m, 12 bytes of 6-bit s and t, 128 bytes of q; sub-blocks of 32, q in 0..15."""
    _encode_with_min(x.reshape(-1), weights, out.reshape(-1, 144), 4, 32, rounds)


def encode_q5_k(x: Floats, weights: Floats, out: Bytes, rounds: int | None = None) -> None:
    """As q4_K, with 32 bytes of fifth bits before the others; q in 0..31."""
    _encode_with_min(x.reshape(-1), weights, out.reshape(-1, 176), 5, 32, rounds)


@compiled
def _encode_with_min(
    flat: Floats, weights: Floats, out: Bytes, bits: int, n: int, rounds: int | None
) -> None:
    top = np.float32((1 << bits) - 1)
    top_scale = np.float32(15 if bits == 2 else 63)
    values, importance = np.empty(BATCH, np.float32), np.empty(BATCH, np.float32)
    levels = np.empty(BATCH, np.float32)
    scales = np.empty(BATCH // n, np.float32)
    mins = np.empty(BATCH // n, np.float32)
    sums = np.empty(BATCH // n, np.float32)
    s, t = np.empty(BATCH // n, np.float32), np.empty(BATCH // n, np.float32)
    d, m = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for first in range(0, out.shape[0], LANES):
        count = min(LANES, out.shape[0] - first)
        read_batch(flat, weights, first, count, values, importance)
        _fit_sub_blocks_min(values, importance, weights.size > 0, bits, n, scales, mins, sums, levels)
        if weights.size > 0:
            _fit_block_weighted(scales, sums, BLOCK // n, top_scale, d, s)
            _fit_block_weighted(mins, sums, BLOCK // n, top_scale, m, t)
        else:
            _fit_block(scales, BLOCK // n, top_scale, d, s)
            _fit_block(mins, BLOCK // n, top_scale, m, t)
        if rounds is not None:
            read_weights(weights, first, importance)
            refine(values, importance, n, (ZERO, top), (ZERO, top_scale), True, d, m, s, t, rounds)
        for b in range(count):
            _write_block(values, levels, b, bits, n, d[b], m[b], s[b:], t[b:], out[first + b])


@compiled
def _write_block(
    values: Floats,
    levels: Floats,
    b: int,
    bits: int,
    n: int,
    d: np.float32,
    m: np.float32,
    s: Floats,
    t: Floats,
    to: Bytes,
) -> None:
    """Round and pack block `b` of a batch."""
    q = np.empty(BLOCK, np.uint8)
    top = np.float32((1 << bits) - 1)
    at = 80 if bits == 2 else 0
    d, m = put_f16(to[at:], d), put_f16(to[at + 2 :], m)
    for j in range(BLOCK // n):
        step, low = d * s[LANES * j], m * t[LANES * j]
        round_sub_block(values, BLOCK * b + n * j, n, step, low, ZERO, top, levels, q)
    if bits == 2:
        pack_q2(q, s, t, to)
    elif bits == 4:
        pack_q4_k(q, s, t, to)
    else:
        pack_q5_k(q, s, t, to)


@compiled
def _fit_sub_blocks_min(
    values: Floats,
    importance: Floats,
    weighted: bool,
    bits: int,
    n: int,
    scales: Floats,
    mins: Floats,
    sums: Floats,
    levels: Floats,
) -> None:
    """Fit every sub-block of a batch by itself; `levels` in columns, sub-block after sub-block otherwise."""
    x, w = np.empty(LANES * n, np.float32), np.empty(LANES * n, np.float32)
    top = np.float32((1 << bits) - 1)
    if weighted:
        first, step, steps = np.float32(-0.9), np.float32(0.05), 36
    elif bits == 4:
        first, step, steps = np.float32(-1), np.float32(0.1), 20
    else:
        first, step, steps = np.float32(-0.5), np.float32(0.1), 15
    if weighted:
        weigh(values, ONE if bits == 2 else np.float32(2), importance)
    for group in range(BATCH // (LANES * n)):
        start = LANES * n * group
        columns(values, start, n, x)
        if weighted:
            columns(importance, start, n, w)
        else:
            _weigh_by_size(x, n, bits != 2, w)
        scale, low = search_scale_min(
            x, w, n, top, first, step, steps, bits == 2 and not weighted, levels[start:]
        )
        store(scales, LANES * group, scale)
        store(mins, LANES * group, low)
        store(sums, LANES * group, column_sums(w, n))


@compiled
def _weigh_by_size(x: Floats, n: int, from_mean: bool, w: Floats) -> None:
    """Weights |x|, from_mean: plus the root mean square of the sub-block."""
    total = splat(ZERO)
    if from_mean:
        for i in range(n):
            value = load(x, LANES * i)
            total += value * value
        total = square_root(total / np.float32(n))
    for i in range(n):
        store(w, LANES * i, total + magnitude(load(x, LANES * i)))


@compiled
def _fit_block(scales: Floats, n: int, top: np.float32, d: Floats, s: Floats) -> None:
    """Make the largest scale of each block `top` steps of d; s: the scales in steps, in columns."""
    peak = splat(ZERO)
    for j in range(n):
        scale = load_strided(scales, j, n)
        peak = select(scale > peak, scale, peak)
    per_step = select(peak > ZERO, top / peak, ZERO)
    for j in range(n):
        steps = nearest(per_step * load_strided(scales, j, n))
        store(s, LANES * j, clamp(steps, ZERO, top))
    store(d, 0, peak / top)


@compiled
def _fit_block_weighted(scales: Floats, sums: Floats, n: int, top: np.float32, d: Floats, s: Floats) -> None:
    """As `fit_block`, with the least error, weighted by the sums of the sub-blocks' weights."""
    x, w = np.empty(LANES * n, np.float32), np.empty(LANES * n, np.float32)
    columns(scales, 0, n, x)
    columns(sums, 0, n, w)
    store(d, 0, search_positive_scale(x, w, n, top, s))

"""Block types of 256 weights in sub-blocks: q2_K, q3_K, q4_K, q5_K, q6_K.

A block holds f16 d (q2_K, q4_K, q5_K: and f16 m), for each sub-block a few bits of scale s (and minimum t),
and 256 integers q. A weight is d * s * q, or d * s * q - m * t. Each encoder packs x (rows, n), finite, n %
256 == 0, into out; weights: (n,) or empty. The blocks of all rows are one sequence, taken in batches of 16.
rounds: how often to `refine` what llama.cpp finds, if at all.
Source: llama.cpp ggml-quants.c, quantize_row_*_K_ref without weights, quantize_row_*_K_impl with them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.compiled import compiled
from ggufpy.quants.floats import put_f16
from ggufpy.quants.k_packing import pack_q2, pack_q3, pack_q4_k, pack_q5_k, pack_q6
from ggufpy.quants.k_search import (
    NOTHING,
    ONE,
    ZERO,
    clamp,
    columns,
    descend,
    extreme,
    nearest,
    search_positive_scale,
    search_scale,
    search_scale_min,
)
from ggufpy.quants.k_thorough import refine
from ggufpy.quants.lanes import (
    LANES,
    F32x16,
    load,
    load_strided,
    magnitude,
    select,
    splat,
    square_root,
    store,
    store_bytes,
)

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

BLOCK = 256
BATCH = LANES * BLOCK


# ---- types with a minimum


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
    levels, q = np.empty(BATCH, np.float32), np.empty(BLOCK, np.uint8)
    scales, mins, sums = (
        np.empty(BATCH // n, np.float32),
        np.empty(BATCH // n, np.float32),
        np.empty(BATCH // n, np.float32),
    )
    s, t = np.empty(BATCH // n, np.float32), np.empty(BATCH // n, np.float32)
    d, m = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for first in range(0, out.shape[0], LANES):
        count = min(LANES, out.shape[0] - first)
        _read_batch(flat, weights, first, count, values, importance)
        _fit_sub_blocks_min(values, importance, weights.size > 0, bits, n, scales, mins, sums, levels)
        if weights.size > 0:
            _fit_block_weighted(scales, sums, BLOCK // n, top_scale, d, s)
            _fit_block_weighted(mins, sums, BLOCK // n, top_scale, m, t)
        else:
            _fit_block(scales, BLOCK // n, top_scale, d, s)
            _fit_block(mins, BLOCK // n, top_scale, m, t)
        if rounds is not None:
            _read_weights(weights, first, importance)
            refine(values, importance, n, (ZERO, top), (ZERO, top_scale), True, d, m, s, t, rounds)
        for b in range(count):
            to = out[first + b]
            at = 80 if bits == 2 else 0
            d_b, m_b = put_f16(to[at:], d[b]), put_f16(to[at + 2 :], m[b])
            for j in range(BLOCK // n):
                start = BLOCK * b + n * j
                step, low = d_b * s[LANES * j + b], m_b * t[LANES * j + b]
                _round_sub_block(values, start, n, step, low, ZERO, top, levels, q)
            if bits == 2:
                pack_q2(q, s[b:], t[b:], to)
            elif bits == 4:
                pack_q4_k(q, s[b:], t[b:], to)
            else:
                pack_q5_k(q, s[b:], t[b:], to)


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
        _weigh(values, ONE if bits == 2 else np.float32(2), importance)
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
        store(sums, LANES * group, _column_sums(w, n))


# ---- types without


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
    levels, q = np.empty(BATCH, np.float32), np.empty(BLOCK, np.uint8)
    scales, sums, s = (
        np.empty(BATCH // 16, np.float32),
        np.empty(BATCH // 16, np.float32),
        np.empty(BATCH // 16, np.float32),
    )
    d, m, t = np.empty(LANES, np.float32), np.zeros(LANES, np.float32), np.zeros(BATCH // 16, np.float32)
    for first in range(0, out.shape[0], LANES):
        count = min(LANES, out.shape[0] - first)
        _read_batch(flat, weights, first, count, values, importance)
        _fit_sub_blocks(values, importance, weights.size > 0, bits, scales, sums, levels)
        if bits == 3 and weights.size > 0:
            _fit_signed_block_weighted(scales, sums, d, s)
        else:
            _fit_signed_block(scales, most, ZERO if bits == 3 else NOTHING, d, s)
        if rounds is not None:
            _read_weights(weights, first, importance)
            refine(values, importance, 16, (-top, top - ONE), (-most, most - ONE), False, d, m, s, t, rounds)
        for b in range(count):
            to = out[first + b]
            if bits == 6 and d[b] == ZERO:
                for i in range(to.size):
                    to[i] = 0
                continue
            d_b = put_f16(to[108:] if bits == 3 else to[208:], d[b])
            for j in range(16):
                step = d_b * s[LANES * j + b]
                _round_sub_block(values, BLOCK * b + 16 * j, 16, step, ZERO, -top, top - ONE, levels, q)
            if bits == 3:
                pack_q3(q, s[b:], to)
            else:
                pack_q6(q, s[b:], to)


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
        _weigh(values, np.float32(2), importance)
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
        store(sums, LANES * group, _column_sums(w, n))


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


# ---- steps of both


@compiled
def _read_batch(
    flat: Floats, weights: Floats, first: int, count: int, values: Floats, importance: Floats
) -> None:
    """Copy `count` blocks from block `first` on, and the weights of their columns; the rest are zeros."""
    for i in range(0, BLOCK * count, LANES):
        store(values, i, load(flat, BLOCK * first + i))
    for i in range(BLOCK * count, BATCH, LANES):
        store(values, i, splat(ZERO))
    _read_weights(weights, first, importance)


@compiled
def _read_weights(weights: Floats, first: int, importance: Floats) -> None:
    """Copy the weights of the columns of 16 blocks; without weights all count alike."""
    for b in range(LANES):
        column = BLOCK * (first + b) % max(weights.size, 1)
        for i in range(0, BLOCK, LANES):
            own = load(weights, column + i) if weights.size > 0 else splat(ONE)
            store(importance, BLOCK * b + i, own)


@compiled
def _weigh(values: Floats, share: np.float32, importance: Floats) -> None:
    """Multiply importance by sqrt(share * the mean square of the block + x^2)."""
    total = splat(ZERO)
    for i in range(BLOCK):
        value = load_strided(values, i, BLOCK)
        total += value * value
    means = np.empty(LANES, np.float32)
    store(means, 0, share * total / np.float32(BLOCK))
    for b in range(LANES):
        for i in range(BLOCK * b, BLOCK * (b + 1), LANES):
            value = load(values, i)
            store(importance, i, load(importance, i) * square_root(means[b] + value * value))


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
def _column_sums(w: Floats, n: int) -> F32x16:
    total = splat(ZERO)
    for i in range(n):
        total += load(w, LANES * i)
    return total


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
    """As `_fit_block`, with the least error, weighted by the sums of the sub-blocks' weights."""
    x, w = np.empty(LANES * n, np.float32), np.empty(LANES * n, np.float32)
    columns(scales, 0, n, x)
    columns(sums, 0, n, w)
    store(d, 0, search_positive_scale(x, w, n, top, s))


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


@compiled
def _round_sub_block(
    values: Floats,
    start: int,
    n: int,
    step: np.float32,
    low: np.float32,
    least: np.float32,
    most: np.float32,
    levels: Floats,
    q: Bytes,
) -> None:
    """Round (values + low) / step into least..most and store it, counted from `least`, in q.

    A step of 0 makes any level as good as another: then those of the search stand, as in llama.cpp.
    """
    at = start % BLOCK
    if step == ZERO:
        lane, column = start // n % LANES, start // (LANES * n) * LANES * n
        for i in range(n):
            q[at + i] = np.uint8(levels[column + LANES * i + lane])
        return
    for i in range(0, n, LANES):
        level = clamp(nearest((load(values, start + i) + low) / step), least, most)
        store_bytes(q, at + i, level - least)

"""iq4_nl and iq4_xs: 16 levels that lie closer near zero, for 32 weights with a scale of their own.

The scale is searched: 16 guesses for the level of the largest weight, each rounded to levels and answered by
the scale that then fits best. 16 sub-blocks of 32 go side by side, so that each sum keeps llama.cpp's order.
Encoders pack x (rows, n), finite, n a multiple of the block, into out (rows, bytes); without `weights` an
error counts as the square of its weight, with them as weights[column] * sqrt(mean square + square).
Source: llama.cpp ggml-quants.c, quantize_row_iq4_nl_impl; layout: ggml-common.h, block_iq4_*.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.floats import put_f16
from ggufpy.quants.formats.lanes import LANES, F32x16, load, magnitude, select, splat, store, store_bytes

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
_MIDDLES = (_LEVELS[1:] + _LEVELS[:-1]) / np.float32(2)
_GAPS = _LEVELS[1:] - _LEVELS[:-1]
_LEAST = np.float32(-127)

# A sub-block of smaller weights becomes zeros.
_TINY = np.float32(1e-15)
_GROUP = 32 * LANES


@compiled
def encode_iq4_nl(x: Floats, weights: Floats, out: Bytes) -> None:
    """Blocks of 32: f16 d, 32 nibbles; weights i and i + 16 share a byte."""
    flat, to = x.reshape(-1), out.reshape(-1)
    values, errors = np.empty(_GROUP, np.float32), np.empty(_GROUP, np.float32)
    scales, inverses = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    levels = np.empty(_GROUP, np.uint8)
    blocks = flat.shape[0] // 32
    for first in range(0, blocks, LANES):
        _gather(flat, weights, x.shape[1], first, 32, values, errors)
        _search_scales(values, errors, scales)
        for lane in range(LANES):
            inverses[lane] = _inverse(scales[lane])
        _round_to_levels(values, inverses, levels)
        for lane in range(min(LANES, blocks - first)):
            at = 18 * (first + lane)
            put_f16(to[at:], scales[lane])
            _put_nibbles(levels, lane, to[at + 2 :])


@compiled
def encode_iq4_xs(x: Floats, weights: Floats, out: Bytes) -> None:
    """Blocks of 256: f16 d, high 2 bits and low 4 bits of eight scales (less 32), 8 times 32 nibbles."""
    flat, to = x.reshape(-1), out.reshape(-1)
    values, errors = np.empty(_GROUP, np.float32), np.empty(_GROUP, np.float32)
    scales, inverses = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    levels = np.empty(_GROUP, np.uint8)
    blocks = flat.shape[0] // 256
    for first in range(0, blocks, 2):
        _gather(flat, weights, x.shape[1], 8 * first, 256, values, errors)
        _search_scales(values, errors, scales)
        count = min(2, blocks - first)
        for b in range(count):
            at = 136 * (first + b)
            _put_scales(scales[8 * b : 8 * b + 8], inverses[8 * b : 8 * b + 8], to[at : at + 8])
        _round_to_levels(values, inverses, levels)
        for lane in range(8 * count):
            _put_nibbles(levels, lane, to[136 * (first + lane // 8) + 8 + 16 * (lane % 8) :])


@compiled
def _gather(
    flat: Floats, weights: Floats, columns: int, first: int, span: int, values: Floats, errors: Floats
) -> None:
    """Let values and errors be 16 sub-blocks and what their errors count, one lane each; 0 beyond the end.

    first: the first sub-block. span: how many weights share a mean square.
    """
    mean = np.float32(0)
    for lane in range(LANES):
        start = 32 * (first + lane)
        if start >= flat.shape[0]:
            for i in range(32):
                values[LANES * i + lane] = errors[LANES * i + lane] = np.float32(0)
            continue
        if weights.shape[0] > 0 and start % span == 0:
            mean = _twice_mean_square(flat[start : start + span])
        column = start % columns
        for i in range(32):
            value = flat[start + i]
            square = value * value
            values[LANES * i + lane] = value
            if weights.shape[0] > 0:
                square = weights[column + i] * np.sqrt(mean + square)
            errors[LANES * i + lane] = square


@compiled
def _twice_mean_square(block: Floats) -> np.float32:
    total = np.float32(0)
    for i in range(block.shape[0]):
        total += block[i] * block[i]
    return total * (np.float32(2) / np.float32(block.shape[0]))


@compiled
def _search_scales(values: Floats, errors: Floats, scales: Floats) -> None:
    """Let scales be the best of each lane's."""
    peak, size = splat(np.float32(0)), splat(np.float32(0))
    for i in range(32):
        value = load(values, LANES * i)
        larger = magnitude(value) > size
        peak, size = select(larger, value, peak), select(larger, magnitude(value), size)
    fit, norm = _fit(values, errors, np.float32(1) / (peak / -_LEAST))
    scale = fit / norm
    best = scale * fit
    for shift in range(-7, 8):
        fit, norm = _fit(values, errors, (np.float32(shift) + _LEAST) / peak)
        better = (norm > np.float32(0)) & (fit * fit > best * norm)
        scale = select(better, fit / norm, scale)
        best = select(better, scale * fit, best)
    useful = (size >= _TINY) & (magnitude(scale) < np.float32(np.inf))
    store(scales, 0, select(useful, scale, np.float32(0)))


@compiled
def _fit(values: Floats, errors: Floats, per_step: F32x16) -> tuple[F32x16, F32x16]:
    """Sums of error * level * value and error * level^2, with the levels nearest to values * per_step."""
    fit, norm = splat(np.float32(0)), splat(np.float32(0))
    for i in range(32):
        value, error = load(values, LANES * i), load(errors, LANES * i)
        steps = value * per_step
        level = splat(_LEAST)
        for k in range(15):
            level = level + select(steps >= _MIDDLES[k], _GAPS[k], np.float32(0))
        fit = fit + error * level * value
        norm = norm + error * level * level
    return fit, norm


@compiled
def _round_to_levels(values: Floats, inverses: Floats, levels: Bytes) -> None:
    """Let levels be the numbers of the levels nearest to values * inverses."""
    per_step = load(inverses, 0)
    for i in range(32):
        steps = load(values, LANES * i) * per_step
        number = splat(np.float32(0))
        for k in range(15):
            number = number + select(steps >= _MIDDLES[k], np.float32(1), np.float32(0))
        store_bytes(levels, LANES * i, number)


@compiled
def _put_scales(scales: Floats, inverses: Floats, to: Bytes) -> None:
    """Store the scales of a block, 6 bits each; let inverses be one over what they are when read."""
    largest = np.float32(0)
    for i in range(8):
        if np.abs(scales[i]) > np.abs(largest):
            largest = scales[i]
    d = -largest / np.float32(32)
    per_step = _inverse(d)
    put_f16(to, d)
    to[2:8] = 0
    for i in range(8):
        step = np.rint(per_step * scales[i])
        step = max(np.float32(-32), min(np.float32(31), step))
        inverses[i] = _inverse(d * step)
        code = np.uint8(np.int32(step) + 32)
        to[2 + i // 4] |= (code >> np.uint8(4)) << np.uint8(2 * (i % 4))
        to[4 + i // 2] |= (code & np.uint8(15)) << np.uint8(4 * (i % 2))


@compiled
def _put_nibbles(levels: Bytes, lane: int, to: Bytes) -> None:
    for i in range(16):
        to[i] = levels[LANES * i + lane] | (levels[LANES * (i + 16) + lane] << np.uint8(4))


@compiled
def _inverse(d: np.float32) -> np.float32:
    return np.float32(0) if d == 0 else np.float32(1) / d

"""iq1_s and iq1_m: a point of a grid for 8 levels of -1, 0, 1, all moved up or down by 1/8 together.

For a sub-block, the best levels without a grid are found exactly: the weights are sorted, and each way to cut
the order into three levels is tried with each shift. Groups off the grid then take the best near point.
Encoders pack x (rows, n), finite, n % 256 == 0, into out (rows, bytes). An error counts as weights[column] *
sqrt(twice the mean square of the block + square). Both need weights.
Source: llama.cpp ggml-quants.c, quantize_row_iq1_*_impl, iq1_find_best_neighbour2; layout: ggml-common.h.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.floats import f16_bits
from ggufpy.quants.formats.iq_grids import Grid, grid
from ggufpy.quants.formats.iq_search import largest, mean_square, nearest, put_u16

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Integers = NDArray[np.int32]

_SHIFT = np.float32(0.125)

# In iq1_m many cuts fit equally well (equal weights, a half of zeros): the first one is taken, not whichever
# rounding favours, so that equal sub-blocks get equal scales.
_CLEARLY = np.float32(1 + 2.4e-7)


def encode_iq1_s(x: Floats, weights: Floats, out: Bytes) -> None:
    """f16 d, low bytes of 32 points, 8 words of their high 3 bits, a 3-bit scale and the shift's sign."""
    _encode_iq1_s(x, weights, out, grid("iq1"))


def encode_iq1_m(x: Floats, weights: Floats, out: Bytes) -> None:
    """Low bytes of 32 points, 16 bytes of twice their high 3 bits and a shift's sign, 16 3-bit scales, d.

    The scales are 4 words of 4 scales and 4 bits of the f16 d.
    """
    _encode_iq1_m(x, weights, out, grid("iq1"))


@compiled
def _encode_iq1_s(x: Floats, weights: Floats, out: Bytes, grid: Grid) -> None:
    errors, levels, points = np.empty(32, np.float32), np.empty(32, np.int32), np.empty(4, np.int32)
    scales, up = np.empty(8, np.float32), np.empty(8, np.bool_)
    shifts = np.empty(4, np.float32)
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 256):
            block, to = x[row, 256 * b : 256 * b + 256], out[row, 50 * b : 50 * b + 50]
            to[:] = 0
            mean = np.float32(2) * mean_square(block)
            for part in range(8):
                own = block[32 * part : 32 * part + 32]
                _count_errors(own, weights[256 * b + 32 * part :], mean, errors)
                scales[part], up[part] = 0, True
                if largest(np.abs(own)) < np.float32(1e-12):
                    continue
                scale, up[part] = _cut_32(own, errors, levels)
                shifts[:] = _SHIFT if up[part] else -_SHIFT
                scales[part] = _choose_points(own, errors, shifts, levels, scale, grid, points)
                word = 0
                for k in range(4):
                    to[2 + 4 * part + k] = np.uint8(points[k] & 255)
                    word |= (points[k] >> 8) << (3 * k)
                put_u16(np.uint16(word), to[34 + 2 * part :])
            top = largest(scales)
            if top == 0:
                to[:] = 0
                continue
            d = top / np.float32(15)
            put_u16(f16_bits(d * np.float32(1.125)), to)
            for part in range(8):
                code = _scale_code(scales[part], d) | (0 if up[part] else 8)
                to[35 + 2 * part] |= np.uint8(code << 4)


@compiled
def _encode_iq1_m(x: Floats, weights: Floats, out: Bytes, grid: Grid) -> None:
    errors, levels = np.empty(256, np.float32), np.empty(16, np.int32)
    points, shifts = np.zeros(32, np.int32), np.empty(32, np.float32)
    scales = np.empty(16, np.float32)
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 256):
            block, to = x[row, 256 * b : 256 * b + 256], out[row, 56 * b : 56 * b + 56]
            to[:] = 0
            _count_errors(block, weights[256 * b :], np.float32(2) * mean_square(block), errors)
            points[:], shifts[:] = 0, _SHIFT
            for part in range(16):
                own, counts = block[16 * part : 16 * part + 16], errors[16 * part : 16 * part + 16]
                scales[part] = 0
                if largest(np.abs(own)) < np.float32(1e-7):
                    continue
                two_shifts, two_points = shifts[2 * part : 2 * part + 2], points[2 * part : 2 * part + 2]
                scale = _cut_16(own, counts, levels, two_shifts)
                scales[part] = _choose_points(own, counts, two_shifts, levels, scale, grid, two_points)
            if largest(scales) > 0:
                _put_iq1_m(block, errors, scales, shifts, points, grid, to)


@compiled
def _put_iq1_m(
    block: Floats, errors: Floats, scales: Floats, shifts: Floats, points: Integers, grid: Grid, to: Bytes
) -> None:
    """Round the scales, fit d to what they are then, store all."""
    words, d = np.zeros(4, np.int32), largest(scales) / np.float32(15)
    fit, norm = np.float32(0), np.float32(0)
    for part in range(16):
        code = _scale_code(scales[part], d)
        words[part // 4] |= code << (3 * (part % 4))
        for k in range(2 * part, 2 * part + 2):
            to[k] = np.uint8(points[k] & 255)
            high = (points[k] >> 8) | (8 if shifts[k] < 0 else 0)
            to[32 + part] |= np.uint8(high << (4 * (k % 2)))
            for i in range(8):
                level = _level(grid, points[k], i, shifts[k]) * np.float32(2 * code + 1)
                fit += errors[8 * k + i] * level * block[8 * k + i]
                norm += errors[8 * k + i] * level * level
    if norm > 0:
        d = fit / norm
    bits = np.int32(f16_bits(d * np.float32(1.1125)))
    for k in range(4):
        put_u16(np.uint16(words[k] | (((bits >> (4 * k)) & 15) << 12)), to[48 + 2 * k :])


@compiled
def _count_errors(own: Floats, weights: Floats, mean: np.float32, errors: Floats) -> None:
    """Let errors be what the squares of errors in `own` count; `weights` begin with its first column."""
    for i in range(own.shape[0]):
        errors[i] = weights[i] * np.sqrt(mean + own[i] * own[i])


@compiled
def _scale_code(scale: np.float32, d: np.float32) -> int:
    """`scale` as 2 * code + 1 steps of d, code 0..7."""
    code = nearest(np.float32(0.5) * ((np.float32(1) / d) * scale - np.float32(1)))
    return int(max(np.float32(0), min(np.float32(7), code)))


@compiled
def _level(grid: Grid, point: int, i: int, shift: np.float32) -> np.float32:
    level: np.float32 = (grid.levels[point, i] - np.float32(3)) * np.float32(0.5) + shift
    return level


@compiled
def _sort(own: Floats, order: Integers) -> None:
    """Let order be the numbers of the weights, least first, equal ones as they come."""
    for i in range(own.shape[0]):
        at = i
        while at > 0 and own[order[at - 1]] > own[i]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = i


@compiled
def _cut_32(own: Floats, errors: Floats, levels: Integers) -> tuple[np.float32, bool]:
    """Let levels, 0..2, be the best of 32 weights; the scale, and whether the shift is up."""
    order = np.empty(32, np.int32)
    _sort(own, order)
    sums, counts = _running_sums(own, errors, order, 0, 32)
    scale, best = np.float32(0), np.float32(-np.inf)
    low_end, middle_end, best_up = 0, 0, True
    for first in range(33):
        for second in range(first, 33):
            for up in (True, False):
                fit, norm = _fit_cut(sums, counts, first, second, _SHIFT if up else -_SHIFT)
                if norm > 0 and fit * fit > best * norm:
                    scale = fit / norm
                    best = scale * fit
                    low_end, middle_end, best_up = first, second, up
    _cut(order, low_end, middle_end, bool(scale < 0), levels)
    return np.abs(scale), best_up != bool(scale < 0)


@compiled
def _cut(order: Integers, low_end: int, middle_end: int, reverse: bool, levels: Integers) -> None:
    """Let the levels be 0 for the first `low_end` in order, 1 up to `middle_end`, then 2; or 2, 1, 0."""
    for i in range(order.shape[0]):
        level = 0 if i < low_end else 1 if i < middle_end else 2
        levels[order[i]] = 2 - level if reverse else level


@compiled
def _cut_16(own: Floats, errors: Floats, levels: Integers, shifts: Floats) -> np.float32:
    """Let levels, 0..2, be the best of 16 weights, shifts (2,) those of both halves; the scale."""
    order = np.empty(16, np.int32)
    _sort(own, order)
    sums_a, counts_a = _running_sums(own, errors, order, 0, 8)
    sums_b, counts_b = _running_sums(own, errors, order, 8, 16)
    scale, best = np.float32(0), np.float32(-np.inf)
    low_end, middle_end, best_shifts = 0, 0, 0
    for first in range(17):
        for second in range(first, 17):
            up_a = _fit_cut(sums_a, counts_a, first, second, _SHIFT)
            down_a = _fit_cut(sums_a, counts_a, first, second, -_SHIFT)
            up_b = _fit_cut(sums_b, counts_b, first, second, _SHIFT)
            down_b = _fit_cut(sums_b, counts_b, first, second, -_SHIFT)
            for k in range(4):
                a, b = up_a if k < 2 else down_a, up_b if k % 2 == 0 else down_b
                fit, norm = a[0] + b[0], a[1] + b[1]
                if norm > 0 and fit * fit > best * norm * _CLEARLY:
                    scale = fit / norm
                    best = scale * fit
                    low_end, middle_end, best_shifts = first, second, k
    _cut(order, low_end, middle_end, bool(scale < 0), levels)
    sign = np.float32(-1) if scale < 0 else np.float32(1)
    shifts[0] = sign * (_SHIFT if best_shifts < 2 else -_SHIFT)
    shifts[1] = sign * (_SHIFT if best_shifts % 2 == 0 else -_SHIFT)
    size: np.float32 = np.abs(scale)
    return size


@compiled
def _running_sums(
    own: Floats, errors: Floats, order: Integers, start: int, stop: int
) -> tuple[Floats, Floats]:
    """Sums of error * value and of error, (n + 1,), over the first 0, 1, ... n weights in order.

    Only the weights from `start` to `stop` count.
    """
    n = own.shape[0]
    sums, counts = np.zeros(n + 1, np.float32), np.zeros(n + 1, np.float32)
    for i in range(n):
        at = order[i]
        counted = start <= at < stop
        sums[i + 1] = sums[i] + errors[at] * own[at] if counted else sums[i]
        counts[i + 1] = counts[i] + errors[at] if counted else counts[i]
    return sums, counts


@compiled
def _fit_cut(
    sums: Floats, counts: Floats, first: int, second: int, shift: np.float32
) -> tuple[np.float32, np.float32]:
    """Sums of error * value * level and error * level^2, the levels cut at `first` and `second`."""
    low, middle, high = np.float32(-1) + shift, shift, np.float32(1) + shift
    end = sums.shape[0] - 1
    fit = sums[first] * low
    fit += (sums[second] - sums[first]) * middle
    fit += (sums[end] - sums[second]) * high
    norm = counts[first] * low * low
    norm += (counts[second] - counts[first]) * middle * middle
    norm += (counts[end] - counts[second]) * high * high
    return fit, norm


@compiled
def _choose_points(
    own: Floats,
    errors: Floats,
    shifts: Floats,
    levels: Integers,
    scale: np.float32,
    grid: Grid,
    points: Integers,
) -> np.float32:
    """Let points be those of the levels, where there is none the best near one; the scale that fits them."""
    all_on_grid = True
    for k in range(points.shape[0]):
        code = 0
        for i in range(len(grid.places)):
            code += levels[8 * k + i] * grid.places[i]
        points[k] = grid.point[code]
        if points[k] < 0:
            all_on_grid = False
            points[k] = _best_near(own, errors, k, shifts[k], scale, code, grid)
    if all_on_grid:
        return scale
    fit, norm = np.float32(0), np.float32(0)
    for k in range(points.shape[0]):
        for i in range(8):
            level = _level(grid, points[k], i, shifts[k])
            fit += errors[8 * k + i] * level * own[8 * k + i]
            norm += errors[8 * k + i] * level * level
    return fit / norm if fit > 0 and norm > 0 else scale


@compiled
def _best_near(
    own: Floats, errors: Floats, group: int, shift: np.float32, scale: np.float32, code: int, grid: Grid
) -> int:
    """The best of the points near to code `code` for group `group` of 8 weights."""
    best, least = int(grid.near[grid.near_start[code]]), np.float32(np.inf)
    for at in range(grid.near_start[code], grid.near_start[code + 1]):
        candidate = int(grid.near[at])
        total = np.float32(0)
        for i in range(len(grid.places)):
            error = scale * _level(grid, candidate, i, shift) - own[8 * group + i]
            total += errors[8 * group + i] * error * error
        if total < least:
            best, least = candidate, total
    return best

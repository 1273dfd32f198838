"""The search that the IQ2 and IQ3 types share: a scale for 16 or 32 magnitudes, and a grid point per group.

A magnitude is scale * (2 * level + 1). Each guess of the scale rounds the magnitudes to levels, moves groups
off the grid to the best of the near points, and is answered by the scale that then fits best.
Source: llama.cpp ggml-quants.c, quantize_row_iq{2,3}_*_impl, iq{2,3}_find_best_neighbour.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.floats import f16_bits
from ggufpy.quants.formats.iq_grids import Grid

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Integers = NDArray[np.int32]

# Which groups choose once more when the best scale is known: those off the grid; all, if one is; all.
OFF_GRID, ALL_IF_ONE, ALL = 0, 1, 2


@compiled
def nearest(value: np.float32) -> np.float32:
    """The whole number nearest to `value`, |value| < 2^22, ties to even."""
    return (value + np.float32(12582912)) - np.float32(12582912)


@compiled
def mean_square(block: Floats) -> np.float32:
    """The mean square, summed in order."""
    total = np.float32(0)
    for i in range(block.shape[0]):
        total += block[i] * block[i]
    return total / np.float32(block.shape[0])


@compiled
def magnitudes(block: Floats, values: Floats, signs: Bytes) -> None:
    """Let values be the magnitudes of `block`, bit i % 8 of signs[i / 8] the sign of weight i."""
    for group in range(block.shape[0] // 8):
        bits = np.uint8(0)
        for i in range(8):
            value = block[8 * group + i]
            values[8 * group + i] = np.abs(value)
            bits |= np.uint8(value < 0) << np.uint8(i)
        signs[group] = bits


@compiled
def make_signs_even(values: Floats, errors: Floats, signs: Bytes) -> None:
    """Flip, where the number of signs in a group of 8 is odd, the one that matters least."""
    for group in range(values.shape[0] // 8):
        bits = signs[group]
        bits ^= bits >> np.uint8(4)
        bits ^= bits >> np.uint8(2)
        bits ^= bits >> np.uint8(1)
        if bits & np.uint8(1):
            at, least = 0, np.float32(np.inf)
            for i in range(8 * group, 8 * group + 8):
                harm = errors[i] * values[i] * values[i]
                if harm < least:
                    at, least = i, harm
            values[at] = -values[at]
            signs[group] ^= np.uint8(1) << np.uint8(at % 8)


@compiled
def largest(values: Floats) -> np.float32:
    """The largest of `values`."""
    result: np.float32 = values[0]
    for i in range(1, values.shape[0]):
        result = max(result, values[i])
    return result


@compiled
def search(
    values: Floats,
    errors: Floats,
    grid: Grid,
    extent: np.float32,
    reach: int,
    spacing: np.float32,
    again: int,
    points: Integers,
) -> np.float32:
    """The best scale for `values` (16 or 32,) whose errors count as `errors`; let points be the groups'.

    extent: the magnitude that the top level stands for, give or take `reach` times `spacing` steps.
    again: which groups choose once more when the best scale is known.
    """
    dims = len(grid.places)
    groups = values.shape[0] // dims
    roots, codes = np.sqrt(errors), np.empty(groups, np.int32)
    tried, off_grid = np.empty(groups, np.int32), np.zeros(groups, np.bool_)
    odd_top = np.float32(15) if dims == 4 else np.float32(5)
    scale, best = extent / odd_top, np.float32(0)
    points[:] = 0
    for shift in range(-reach, reach + 1):
        per_step = (odd_top + np.float32(shift) * spacing) / extent
        _round(values, per_step, grid, codes)
        for k in range(groups):
            tried[k] = _choose_point(values, roots, k, np.float32(1) / per_step, codes[k], grid)
        fit, norm = _fit(values, errors, grid, tried)
        if norm > 0 and fit * fit > best * norm:
            scale = fit / norm
            best = scale * fit
            for k in range(groups):
                points[k], off_grid[k] = tried[k], grid.point[codes[k]] < 0
    if scale > 0 and (again == ALL or off_grid.any()):
        _round(values, np.float32(1) / scale, grid, codes)
        for k in range(groups):
            if again != OFF_GRID or off_grid[k]:
                points[k] = _choose_point(values, roots, k, scale, codes[k], grid)
        fit, norm = _fit(values, errors, grid, points)
        if norm > 0:
            scale = fit / norm
    return scale


@compiled
def _round(values: Floats, per_step: np.float32, grid: Grid, codes: Integers) -> None:
    """Let codes be those of the levels nearest to values * per_step, group by group."""
    dims = len(grid.places)
    top = np.float32(7) if dims == 4 else np.float32(2)
    levels = np.empty(values.shape[0], np.int32)
    for i in range(values.shape[0]):
        level = nearest(np.float32(0.5) * (per_step * values[i] - np.float32(1)))
        levels[i] = np.int32(max(np.float32(0), min(top, level)))
    for k in range(codes.shape[0]):
        code = np.int32(0)
        for i in range(dims):
            code += levels[dims * k + i] * np.int32(grid.places[i])
        codes[k] = code


@compiled
def _choose_point(values: Floats, roots: Floats, group: int, step: np.float32, code: int, grid: Grid) -> int:
    """The point with code `code`; if there is none, the best of those near to it for group `group`."""
    dims = len(grid.places)
    point = int(grid.point[code])
    if point >= 0:
        return point
    least = np.float32(np.inf)
    for at in range(grid.near_start[code], grid.near_start[code + 1]):
        candidate = int(grid.near[at])
        total = np.float32(0)
        for i in range(dims):
            error = step * grid.levels[candidate, i] - values[dims * group + i]
            total += roots[dims * group + i] * error * error
        if total < least:
            point, least = candidate, total
    return point


@compiled
def _fit(values: Floats, errors: Floats, grid: Grid, points: Integers) -> tuple[np.float32, np.float32]:
    """Sums of error * value * level and error * level^2, with the levels of `points`."""
    dims = len(grid.places)
    fit, norm = np.float32(0), np.float32(0)
    for k in range(values.shape[0] // dims):
        for i in range(dims):
            error, level = errors[dims * k + i], grid.levels[points[k], i]
            fit += error * values[dims * k + i] * level
            norm += error * level * level
    return fit, norm


@compiled
def put_scale(scales: Floats, factor: np.float32, codes: Bytes, to: Bytes) -> bool:
    """Let codes, 0..15, be the scales, 2 * code + 1 steps of d, and to[:2] d * factor; False if all are 0."""
    top = largest(scales)
    if top == 0:
        return False
    d = top / np.float32(31)
    per_step = np.float32(1) / d
    for i in range(scales.shape[0]):
        code = nearest(np.float32(0.5) * (per_step * scales[i] - np.float32(1)))
        codes[i] = np.uint8(max(np.float32(0), min(np.float32(15), code)))
    put_u16(f16_bits(d * factor), to)
    return True


@compiled
def put_u16(value: np.uint16, to: Bytes) -> None:
    """Store `value`, low byte first."""
    to[0], to[1] = np.uint8(value & 0xFF), np.uint8(value >> 8)

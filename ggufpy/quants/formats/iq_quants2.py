"""iq2_xxs, iq2_xs and iq2_s: signs, a point of a grid for 8 levels of 0..2, a scale for 32 or 16 weights.

Encoders pack x (rows, n), finite, n % 256 == 0, into out (rows, bytes). An error counts as weights[column] *
sqrt(mean square of the block + square), in iq2_s with twice the mean square. All need weights.
Source: llama.cpp ggml-quants.c, quantize_row_iq2_*_impl, make_qp_quants; layout: ggml-common.h, block_iq2_*.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.iq_grids import Grid, grid
from ggufpy.quants.formats.iq_search import (
    ALL,
    OFF_GRID,
    largest,
    magnitudes,
    make_signs_even,
    mean_square,
    nearest,
    put_scale,
    put_u16,
    search,
)

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def encode_iq2_xxs(x: Floats, weights: Floats, out: Bytes) -> None:
    """f16 d, 8 times 4 points and a word of 4 times 7 signs (the number of all 8 is even), 4-bit scale."""
    _encode_iq2_xxs(x, weights, out, grid("iq2_xxs"))


def encode_iq2_xs(x: Floats, weights: Floats, out: Bytes) -> None:
    """f16 d, 32 words of 9 bits for a point and 7 signs (the number of all 8 is even), 16 4-bit scales."""
    _encode_iq2_xs(x, weights, out, grid("iq2_xs"))


def encode_iq2_s(x: Floats, weights: Floats, out: Bytes) -> None:
    """f16 d, low bytes of 32 points, 256 signs, the points' high 2 bits, 16 4-bit scales."""
    _encode_iq2_s(x, weights, out, grid("iq2_s"))


@compiled
def _encode_iq2_xxs(x: Floats, weights: Floats, out: Bytes, grid: Grid) -> None:
    values, errors = np.empty(32, np.float32), np.empty(32, np.float32)
    scales, codes = np.empty(8, np.float32), np.empty(8, np.uint8)
    points, signs = np.empty(4, np.int32), np.empty(4, np.uint8)
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 256):
            block, to = x[row, 256 * b : 256 * b + 256], out[row, 66 * b : 66 * b + 66]
            to[:] = 0
            mean = mean_square(block)
            for part in range(8):
                own = block[32 * part : 32 * part + 32]
                _count_errors(own, weights[256 * b + 32 * part :], mean, errors)
                magnitudes(own, values, signs)
                make_signs_even(values, errors, signs)
                scales[part] = 0
                if largest(values) < np.float32(1e-15):
                    continue
                extent = _guess_scale(values, errors) * np.float32(3)
                if extent <= 0:
                    continue
                scale = search(values, errors, grid, extent, 6, np.float32(0.1), ALL, points)
                flip = np.uint8(127) if scale < 0 else np.uint8(0)
                scales[part] = np.abs(scale)
                word = np.uint32(0)
                for k in range(4):
                    word |= np.uint32((signs[k] ^ flip) & np.uint8(127)) << np.uint32(7 * k)
                for k in range(4):
                    to[2 + 8 * part + k] = np.uint8(points[k])
                    to[6 + 8 * part + k] = np.uint8((word >> np.uint32(8 * k)) & np.uint32(255))
            if not put_scale(scales, np.float32(1), codes, to):
                to[:] = 0
                continue
            for part in range(8):
                to[9 + 8 * part] |= codes[part] << np.uint8(4)


@compiled
def _encode_iq2_xs(x: Floats, weights: Floats, out: Bytes, grid: Grid) -> None:
    values, errors = np.empty(16, np.float32), np.empty(16, np.float32)
    scales, codes = np.empty(16, np.float32), np.empty(16, np.uint8)
    points, signs = np.empty(2, np.int32), np.empty(2, np.uint8)
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 256):
            block, to = x[row, 256 * b : 256 * b + 256], out[row, 74 * b : 74 * b + 74]
            to[:] = 0
            mean = mean_square(block)
            for part in range(16):
                own = block[16 * part : 16 * part + 16]
                _count_errors(own, weights[256 * b + 16 * part :], mean, errors)
                magnitudes(own, values, signs)
                make_signs_even(values, errors, signs)
                scales[part] = 0
                extent = largest(values)
                if extent < np.float32(1e-15):
                    continue
                scale = search(values, errors, grid, extent, 9, np.float32(0.1), OFF_GRID, points)
                flip = np.uint8(127) if scale < 0 else np.uint8(0)
                scales[part] = np.abs(scale)
                for k in range(2):
                    word = points[k] | (np.int32((signs[k] ^ flip) & np.uint8(127)) << 9)
                    put_u16(np.uint16(word), to[2 + 4 * part + 2 * k :])
            if not put_scale(scales, np.float32(1), codes, to):
                to[:] = 0
                continue
            _put_nibbles(codes, to[66:])


@compiled
def _encode_iq2_s(x: Floats, weights: Floats, out: Bytes, grid: Grid) -> None:
    values, errors = np.empty(16, np.float32), np.empty(16, np.float32)
    scales, codes = np.empty(16, np.float32), np.empty(16, np.uint8)
    points, signs = np.empty(2, np.int32), np.empty(2, np.uint8)
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 256):
            block, to = x[row, 256 * b : 256 * b + 256], out[row, 82 * b : 82 * b + 82]
            to[:] = 0
            mean = np.float32(2) * mean_square(block)
            for part in range(16):
                own = block[16 * part : 16 * part + 16]
                _count_errors(own, weights[256 * b + 16 * part :], mean, errors)
                magnitudes(own, values, signs)
                scales[part] = 0
                extent = largest(values)
                if extent < np.float32(1e-8):
                    continue
                scale = search(values, errors, grid, extent, 9, np.float32(0.1), OFF_GRID, points)
                flip = np.uint8(255) if scale < 0 else np.uint8(0)
                scales[part] = np.abs(scale)
                for k in range(2):
                    group = 2 * part + k
                    to[2 + group] = np.uint8(points[k] & 255)
                    to[34 + group] = signs[k] ^ flip
                    to[66 + group // 4] |= np.uint8(points[k] >> 8) << np.uint8(2 * (group % 4))
            if not put_scale(scales, np.float32(0.9875), codes, to):
                to[:] = 0
                continue
            _put_nibbles(codes, to[74:])


@compiled
def _count_errors(own: Floats, weights: Floats, mean: np.float32, errors: Floats) -> None:
    """Let errors be what the squares of errors in `own` count; `weights` begin with its first column."""
    for i in range(own.shape[0]):
        errors[i] = weights[i] * np.sqrt(mean + own[i] * own[i])


@compiled
def _guess_scale(values: Floats, errors: Floats) -> np.float32:
    """A scale for levels 0..4, as steps of scale * level from 0: the start of iq2_xxs's search.

    A flipped value, < 0, has the level -1; when levels are moved one by one, it counts as 255, as it does in
    llama.cpp, where it is held in a byte.
    """
    top = np.float32(4)
    peak = largest(values)
    per_step, least = top / peak, np.float32(np.inf)
    for trial in range(9):
        shift = (0, -4, -3, -2, -1, 1, 2, 3, 4)[trial]
        tried = (np.float32(0.1) * np.float32(shift) + top) / peak
        step, total = np.float32(1) / tried, np.float32(0)
        for i in range(32):
            level = min(top, nearest(tried * values[i]))
            if shift == 0 and level < 0:
                level += np.float32(256)
            error = values[i] - step * level
            total += errors[i] * error * error
        if total < least:
            per_step, least = tried, total
    levels = np.empty(32, np.float32)
    fit, norm = np.float32(0), np.float32(0)
    for i in range(32):
        level = min(top, nearest(per_step * values[i]))
        fit += errors[i] * values[i] * level
        norm += errors[i] * level * level
        levels[i] = level if level >= 0 else level + np.float32(256)
    return _move_levels(values, errors, levels, top, fit, norm)


@compiled
def _move_levels(
    values: Floats, errors: Floats, levels: Floats, top: np.float32, fit: np.float32, norm: np.float32
) -> np.float32:
    """The scale after up to five rounds of moving each level to where the others' scale wants it."""
    for _ in range(5):
        changed = False
        for i in range(32):
            value, error, level = values[i], errors[i], levels[i]
            fit_rest = fit - error * value * level
            norm_rest = norm - error * level * level
            if fit_rest <= 0 or norm_rest <= 0:
                continue
            moved = min(top, nearest(value * norm_rest / fit_rest))
            if moved == level:
                continue
            fit_moved = fit_rest + error * value * moved
            norm_moved = norm_rest + error * moved * moved
            if fit_moved * fit_moved * norm > fit * fit * norm_moved:
                levels[i] = moved if moved >= 0 else moved + np.float32(256)
                fit, norm, changed = fit_moved, norm_moved, True
        if not changed:
            break
    return fit / norm if norm > 0 else np.float32(0)


@compiled
def _put_nibbles(codes: Bytes, to: Bytes) -> None:
    for i in range(8):
        to[i] = codes[2 * i] | (codes[2 * i + 1] << np.uint8(4))

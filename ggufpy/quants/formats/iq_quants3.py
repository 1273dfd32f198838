"""iq3_xxs and iq3_s: signs, a point of a grid for 4 levels of 0..7, and a scale for 32 weights.

Encoders pack x (rows, n), finite, n % 256 == 0, into out (rows, bytes); without `weights` an error counts as
the square of its weight, with them as weights[column] * sqrt(twice the block's mean square + square).
Source: llama.cpp ggml-quants.c, quantize_row_iq3_*_impl; layout: ggml-common.h, block_iq3_*.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.iq_grids import Grid, grid
from ggufpy.quants.formats.iq_search import (
    ALL_IF_ONE,
    OFF_GRID,
    largest,
    magnitudes,
    make_signs_even,
    mean_square,
    put_scale,
    search,
)

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def encode_iq3_xxs(x: Floats, weights: Floats, out: Bytes) -> None:
    """f16 d, 64 points, 8 words of 4 times 7 signs (the number of all 8 is even) and a 4-bit scale."""
    _encode_iq3_xxs(x, weights, out, grid("iq3_xxs"))


def encode_iq3_s(x: Floats, weights: Floats, out: Bytes) -> None:
    """f16 d, low bytes of 64 points, their ninth bits, 256 signs, 8 4-bit scales."""
    _encode_iq3_s(x, weights, out, grid("iq3_s"))


@compiled
def _encode_iq3_xxs(x: Floats, weights: Floats, out: Bytes, grid: Grid) -> None:
    values, errors = np.empty(32, np.float32), np.empty(32, np.float32)
    scales, codes = np.empty(8, np.float32), np.empty(8, np.uint8)
    points, signs = np.empty(8, np.int32), np.empty(4, np.uint8)
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 256):
            block, to = x[row, 256 * b : 256 * b + 256], out[row, 98 * b : 98 * b + 98]
            to[:] = 0
            mean = np.float32(2) * mean_square(block)
            for part in range(8):
                own = block[32 * part : 32 * part + 32]
                _count_errors(own, weights, 256 * b + 32 * part, mean, errors)
                magnitudes(own, values, signs)
                make_signs_even(values, errors, signs)
                scales[part] = 0
                extent = largest(values)
                if extent < np.float32(1e-8):
                    continue
                scale = search(values, errors, grid, extent, 15, np.float32(0.2), OFF_GRID, points)
                flip = np.uint8(127) if scale < 0 else np.uint8(0)
                scales[part] = np.abs(scale)
                word = np.uint32(0)
                for k in range(4):
                    word |= np.uint32((signs[k] ^ flip) & np.uint8(127)) << np.uint32(7 * k)
                for k in range(4):
                    to[66 + 4 * part + k] = np.uint8((word >> np.uint32(8 * k)) & np.uint32(255))
                for k in range(8):
                    to[2 + 8 * part + k] = np.uint8(points[k])
            if not put_scale(scales, np.float32(1.0125), codes, to):
                to[:] = 0
                continue
            for part in range(8):
                to[69 + 4 * part] |= codes[part] << np.uint8(4)


@compiled
def _encode_iq3_s(x: Floats, weights: Floats, out: Bytes, grid: Grid) -> None:
    values, errors = np.empty(32, np.float32), np.empty(32, np.float32)
    scales, codes = np.empty(8, np.float32), np.empty(8, np.uint8)
    points, signs = np.empty(8, np.int32), np.empty(4, np.uint8)
    for row in range(x.shape[0]):
        for b in range(x.shape[1] // 256):
            block, to = x[row, 256 * b : 256 * b + 256], out[row, 110 * b : 110 * b + 110]
            to[:] = 0
            mean = np.float32(2) * mean_square(block)
            for part in range(8):
                own = block[32 * part : 32 * part + 32]
                _count_errors(own, weights, 256 * b + 32 * part, mean, errors)
                magnitudes(own, values, signs)
                scales[part] = 0
                extent = largest(values)
                if extent == 0:
                    continue
                scale = search(values, errors, grid, extent, 9, np.float32(0.2), ALL_IF_ONE, points)
                flip = np.uint8(255) if scale < 0 else np.uint8(0)
                scales[part] = np.abs(scale)
                for k in range(4):
                    to[74 + 4 * part + k] = signs[k] ^ flip
                for k in range(8):
                    to[2 + 8 * part + k] = np.uint8(points[k] & 255)
                    to[66 + part] |= np.uint8(points[k] >> 8) << np.uint8(k)
            if not put_scale(scales, np.float32(1.033), codes, to):
                to[:] = 0
                continue
            for i in range(4):
                to[106 + i] = codes[2 * i] | (codes[2 * i + 1] << np.uint8(4))


@compiled
def _count_errors(own: Floats, weights: Floats, column: int, mean: np.float32, errors: Floats) -> None:
    """Let errors be what the squares of errors in `own`, whose first column is `column`, count."""
    for i in range(32):
        square = own[i] * own[i]
        errors[i] = weights[column + i] * np.sqrt(mean + square) if weights.shape[0] > 0 else square

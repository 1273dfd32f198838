"""search="thorough" for q4_0, q4_1, q5_0, q5_1: what lowers the error further after the weighted search.

Around the scale that it found others are tried. From each, rounds alternate between the best levels for the
scale and the minimum, rounded to f16 as they will be, and the best scale and minimum for these levels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.floats import f16_bits, f16_value
from ggufpy.quants.formats.k_search import ONE, ZERO, clamp, columns, nearest
from ggufpy.quants.formats.lanes import LANES, F32x16, load, select, splat, store

Floats = NDArray[np.float32]

BLOCK = 32
ROUNDS = 3


@compiled
def refine(
    values: Floats,
    importance: Floats,
    least: np.float32,
    most: np.float32,
    with_min: bool,
    trials: int,
    levels: Floats,
    d: Floats,
    m: Floats,
) -> None:
    """Improve d and m of 16 blocks, d * q + m with q in least..most; levels: q - least, in columns.

    trials: how many scales to try on either side, 2 % apart.
    """
    x, w = np.empty(LANES * BLOCK, np.float32), np.empty(LANES * BLOCK, np.float32)
    columns(values, 0, BLOCK, x)
    columns(importance, 0, BLOCK, w)
    first_d, first_m = load(d, 0), load(m, 0)
    best_d, best_m = _as_f16(first_d), _as_f16(first_m)
    best, _, _ = _error_and_optimum(x, w, best_d, best_m, least, most, with_min)
    for trial in range(-trials, trials + 1):
        next_d, next_m = first_d * (ONE + np.float32(0.02) * np.float32(trial)), first_m
        for _ in range(ROUNDS):
            now_d, now_m = _as_f16(next_d), _as_f16(next_m)
            error, next_d, next_m = _error_and_optimum(x, w, now_d, now_m, least, most, with_min)
            better = error < best
            best = select(better, error, best)
            best_d, best_m = select(better, now_d, best_d), select(better, now_m, best_m)
    store(d, 0, best_d)
    store(m, 0, best_m)
    for i in range(BLOCK):
        store(levels, LANES * i, _quantum(load(x, LANES * i), best_d, best_m, least, most) - least)


@compiled
def _as_f16(value: F32x16) -> F32x16:
    lanes = np.empty(LANES, np.float32)
    store(lanes, 0, value)
    for lane in range(LANES):
        lanes[lane] = f16_value(f16_bits(lanes[lane]))
    return load(lanes, 0)


@compiled
def _quantum(value: F32x16, d: F32x16, m: F32x16, least: np.float32, most: np.float32) -> F32x16:
    """The level in whose place d * level + m is nearest to `value`; any where d is 0."""
    per_step = select(d == ZERO, ZERO, ONE / d)
    return clamp(nearest((value - m) * per_step), least, most)


@compiled
def _error_and_optimum(
    x: Floats, w: Floats, d: F32x16, m: F32x16, least: np.float32, most: np.float32, with_min: bool
) -> tuple[F32x16, F32x16, F32x16]:
    """The weighted squared error of the best levels for d and m, and the best d and m for these levels."""
    error = ww = qw = qq = xw = xq = splat(ZERO)
    for i in range(BLOCK):
        value, weight = load(x, LANES * i), load(w, LANES * i)
        q = _quantum(value, d, m, least, most)
        difference = d * q + m - value
        error += weight * difference * difference
        ww += weight
        qw += weight * q
        qq += weight * q * q
        xw += weight * value
        xq += weight * value * q
    if not with_min:
        return error, select(qq > ZERO, xq / qq, d), m
    determinant = ww * qq - qw * qw
    solvable = determinant > np.float32(1e-5) * ww * qq
    new_d, new_m = (ww * xq - xw * qw) / determinant, (qq * xw - qw * xq) / determinant
    mean = select(ww > ZERO, xw / ww, m)  # as good as any where all levels are alike
    return error, select(solvable, new_d, ZERO), select(solvable, new_m, mean)

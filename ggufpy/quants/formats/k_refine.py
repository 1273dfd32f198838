"""search="thorough" for K types: what lowers the error further after llama.cpp's search.

There each sub-block is fitted alone, then its scale is rounded to a whole number of steps of the block's,
which costs again. Here rounds alternate between the best whole numbers s, t of each sub-block, given d and m
of the block, and the best d and m, given those and the levels. A block keeps the best it has seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.floats import f16_bits, f16_value
from ggufpy.quants.formats.k_batch import BATCH
from ggufpy.quants.formats.k_search import ONE, ZERO, clamp, columns, nearest
from ggufpy.quants.formats.lanes import LANES, F32x16, load, select, splat, store

Floats = NDArray[np.float32]
Range = tuple[np.float32, np.float32]

# How far from the steps of the round before others are tried, without a minimum and with one.
REACH, REACH_WITH_MIN = 8, 3


@compiled
def refine(
    values: Floats,
    importance: Floats,
    n: int,
    levels: Range,
    steps: Range,
    with_min: bool,
    d: Floats,
    m: Floats,
    s: Floats,
    t: Floats,
    rounds: int,
) -> None:
    """Improve d, m (16 blocks) and s, t (in columns) of a batch; levels, steps: ranges of q and of s, t."""
    per_block = BATCH // LANES // n
    x, w = np.empty(BATCH, np.float32), np.empty(BATCH, np.float32)
    for start in range(0, BATCH, LANES * n):
        columns(values, start, n, x[start:])
        columns(importance, start, n, w[start:])
    now_d, now_m = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    trial_s, trial_t = np.empty(s.size, np.float32), np.empty(s.size, np.float32)
    sums, best = np.empty((6, BATCH // n), np.float32), np.empty(LANES, np.float64)
    for b in range(LANES):
        _copy_block(d, m, s, t, b, now_d, now_m, trial_s, trial_t)
        best[b] = np.inf
    for number in range(rounds):
        for b in range(LANES):
            now_d[b], now_m[b] = f16_value(f16_bits(now_d[b])), f16_value(f16_bits(now_m[b]))
        reach = 0 if number == 0 else REACH_WITH_MIN if with_min else REACH
        _choose_steps(x, w, n, levels, steps, with_min, reach, now_d, now_m, trial_s, trial_t, sums)
        for b in range(LANES):
            error = _total(sums[5], per_block, b)
            if error < best[b]:
                best[b] = error
                _copy_block(now_d, now_m, trial_s, trial_t, b, d, m, s, t)
            now_d[b], now_m[b] = _least_squares(sums, per_block, b, now_d[b], now_m[b], with_min)


@compiled
def _copy_block(
    d: Floats, m: Floats, s: Floats, t: Floats, b: int, to_d: Floats, to_m: Floats, to_s: Floats, to_t: Floats
) -> None:
    to_d[b], to_m[b] = d[b], m[b]
    for j in range(b, s.size, LANES):
        to_s[j], to_t[j] = s[j], t[j]


@compiled
def _total(sums: Floats, per_block: int, b: int) -> np.float64:
    """The sum over the sub-blocks of block `b`."""
    total = np.float64(0)
    for j in range(per_block * b, per_block * (b + 1)):
        total += sums[j]
    return total


@compiled
def _choose_steps(
    x: Floats,
    w: Floats,
    n: int,
    levels: Range,
    steps: Range,
    with_min: bool,
    reach: int,
    d: Floats,
    m: Floats,
    s: Floats,
    t: Floats,
    sums: Floats,
) -> None:
    """Move s and t by up to `reach` to the least error; sums: what `_least_squares` needs, per sub-block."""
    per_block = BATCH // LANES // n
    own = np.empty((4, LANES), np.float32)
    for group in range(BATCH // (LANES * n)):
        own_x, own_w = x[LANES * n * group :], w[LANES * n * group :]
        for lane in range(LANES):
            b, j = divmod(LANES * group + lane, per_block)
            own[0, lane], own[1, lane] = d[b], m[b]
            own[2, lane], own[3, lane] = s[LANES * j + b], t[LANES * j + b]
        own_d, own_m, best_s, best_t = load(own[0], 0), load(own[1], 0), load(own[2], 0), load(own[3], 0)
        first_s, first_t = best_s, best_t
        best = _error(own_x, own_w, n, own_d * best_s, own_m * best_t, levels)
        reach_t = reach if with_min else 0
        for more_s in range(-reach, reach + 1):
            for more_t in range(-reach_t, reach_t + 1):
                trial_s = clamp(first_s + np.float32(more_s), steps[0], steps[1])
                trial_t = clamp(first_t + np.float32(more_t), ZERO, steps[1])
                error = _error(own_x, own_w, n, own_d * trial_s, own_m * trial_t, levels)
                better = error < best
                best = select(better, error, best)
                best_s, best_t = select(better, trial_s, best_s), select(better, trial_t, best_t)
        store(own[2], 0, best_s)
        store(own[3], 0, best_t)
        for lane in range(LANES):
            b, j = divmod(LANES * group + lane, per_block)
            s[LANES * j + b], t[LANES * j + b] = own[2, lane], own[3, lane]
        _sum_up(own_x, own_w, n, own_d, own_m, best_s, best_t, levels, sums, LANES * group)
        store(sums[5], LANES * group, best)


@compiled
def _quantum(value: F32x16, step: F32x16, low: F32x16, levels: Range) -> F32x16:
    """The level in whose place step * level - low is nearest to `value`; any where step is 0."""
    per_step = select(step == ZERO, ZERO, ONE / step)
    return clamp(nearest((value + low) * per_step), levels[0], levels[1])


@compiled
def _error(x: Floats, w: Floats, n: int, step: F32x16, low: F32x16, levels: Range) -> F32x16:
    """The weighted squared error of the best levels for `step` and `low`."""
    error = splat(ZERO)
    for i in range(n):
        value = load(x, LANES * i)
        difference = step * _quantum(value, step, low, levels) - low - value
        error += load(w, LANES * i) * difference * difference
    return error


@compiled
def _sum_up(
    x: Floats,
    w: Floats,
    n: int,
    d: F32x16,
    m: F32x16,
    s: F32x16,
    t: F32x16,
    levels: Range,
    sums: Floats,
    at_sums: int,
) -> None:
    """Store the sums of w a a, w a t, w t t, w x a, w x t with a = s * level."""
    aa = at = tt = xa = xt = splat(ZERO)
    for i in range(n):
        value, weight = load(x, LANES * i), load(w, LANES * i)
        a = s * _quantum(value, d * s, m * t, levels)
        aa += weight * a * a
        at += weight * a * t
        tt += weight * t * t
        xa += weight * value * a
        xt += weight * value * t
    store(sums[0], at_sums, aa)
    store(sums[1], at_sums, at)
    store(sums[2], at_sums, tt)
    store(sums[3], at_sums, xa)
    store(sums[4], at_sums, xt)


@compiled
def _least_squares(
    sums: Floats, per_block: int, b: int, d: np.float32, m: np.float32, with_min: bool
) -> tuple[np.float32, np.float32]:
    """The d and m >= 0 of a block with the least error for its levels; the old ones where none is best."""
    aa, at, tt = _total(sums[0], per_block, b), _total(sums[1], per_block, b), _total(sums[2], per_block, b)
    xa, xt = _total(sums[3], per_block, b), _total(sums[4], per_block, b)
    if aa <= 0:
        return d, m
    determinant = aa * tt - at * at
    if with_min and determinant > 1e-9 * aa * tt:
        new_m = (xa * at - xt * aa) / determinant
        if new_m > 0:
            return np.float32((xa * tt - xt * at) / determinant), np.float32(new_m)
    return np.float32(xa / aa), ZERO

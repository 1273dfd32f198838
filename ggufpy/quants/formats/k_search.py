"""Searches for the scale, or the scale and the minimum, that fit a block best; 16 blocks in lockstep.

x and w are blocks in columns: weight i of block b is at 16 i + b. w is how much its error counts. The
searches sum in f32, weight after weight, as llama.cpp does, so that they find the same.
Source of what is tried, and in which order: llama.cpp ggml-quants.c.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.lanes import (
    LANES,
    F32x16,
    any_lane,
    load,
    load_strided,
    magnitude,
    select,
    splat,
    store,
)

Floats = NDArray[np.float32]

ZERO = np.float32(0)
ONE = np.float32(1)
# Adding and taking away 1.5 * 2^23 rounds to a whole number, halves to even.
_ROUNDER = np.float32(12582912)
# Blocks, or scales, with nothing larger count as zero.
NOTHING = np.float32(1e-15)


@compiled
def columns(x: Floats, first: int, n: int, out: Floats) -> None:
    """Copy 16 blocks of `n` that follow each other from x[first] on into columns."""
    for i in range(n):
        store(out, LANES * i, load_strided(x, first + i, n))


@compiled
def nearest(value: F32x16) -> F32x16:
    """Rounded to whole numbers, halves to even."""
    return (value + _ROUNDER) - _ROUNDER


@compiled
def clamp(value: F32x16, low: np.float32, high: np.float32) -> F32x16:
    """Lane by lane the nearest number in low..high."""
    at_most = select(value > high, high, value)
    return select(at_most < low, low, at_most)


@compiled
def extreme(x: Floats, n: int) -> F32x16:
    """The first number of largest magnitude in each column."""
    result = load(x, 0)
    for i in range(1, n):
        value = load(x, LANES * i)
        result = select(magnitude(value) > magnitude(result), value, result)
    return result


@compiled
def _products(
    x: Floats, w: Floats, n: int, per_step: F32x16, low: np.float32, high: np.float32
) -> tuple[F32x16, F32x16]:
    """Sums of w x q and w q q, where q is x * per_step rounded into low..high."""
    sum_xq = sum_qq = splat(ZERO)
    for i in range(n):
        value, weight = load(x, LANES * i), load(w, LANES * i)
        q = clamp(nearest(per_step * value), low, high)
        sum_xq += weight * value * q
        sum_qq += weight * q * q
    return sum_xq, sum_qq


@compiled
def search_scale(x: Floats, w: Floats, n: int, top: np.float32, levels: Floats) -> F32x16:
    """Scales d for levels -top..top-1 that x = d * (level - top) fits; stores the levels, 0..2 top - 1.

    19 candidates put the extreme weight at, and up to 0.9 of a step beside, level 0; the best d for the
    levels of each is known in closed form.
    """
    peak = extreme(x, n)
    low, high = -top, top - ONE
    per_step = -top / peak
    sum_xq, sum_qq = _products(x, w, n, per_step, low, high)
    scale = select(sum_qq > ZERO, sum_xq / sum_qq, ZERO)
    best = scale * sum_xq
    for candidate in range(-9, 10):
        if candidate == 0:
            continue
        trial = -(top + np.float32(0.1) * np.float32(candidate)) / peak
        sum_xq, sum_qq = _products(x, w, n, trial, low, high)
        better = (sum_qq > ZERO) & (sum_xq * sum_xq > best * sum_qq)
        scale = select(better, sum_xq / sum_qq, scale)
        best = select(better, scale * sum_xq, best)
        per_step = select(better, trial, per_step)
    empty = magnitude(peak) < NOTHING
    for i in range(n):
        q = clamp(nearest(per_step * load(x, LANES * i)), low, high)
        store(levels, LANES * i, select(empty, ZERO, q + top))
    return select(empty, ZERO, scale)


@compiled
def search_scale_min(
    x: Floats,
    w: Floats,
    n: int,
    top: np.float32,
    first: np.float32,
    step: np.float32,
    steps: int,
    absolute: bool,
    levels: Floats,
) -> tuple[F32x16, F32x16]:
    """Scales d and minima m >= 0 for levels 0..top that x = d * level - m fits; stores the levels.

    Candidate k of 0..steps spreads the range of x over top + first + k * step levels; the best d and m for
    its levels are known in closed form. absolute: errors are not squared.
    """
    low, high, sum_w, sum_x = _range_and_sums(x, w, n)
    flat = low == high
    per_step = top / (high - low)
    scale = ONE / per_step
    best_per_step, best_low = per_step, low
    _moments(x, w, n, per_step, low, top, levels)
    best = _error(x, w, n, scale, low, absolute, levels)
    for k in range(steps + 1):
        per_step = (first + step * np.float32(k) + top) / (high - low)
        sum_q, sum_qq, sum_xq = _moments(x, w, n, per_step, low, top, levels)
        determinant = sum_w * sum_qq - sum_q * sum_q
        trial_scale = (sum_w * sum_xq - sum_x * sum_q) / determinant
        trial_low = (sum_qq * sum_x - sum_q * sum_xq) / determinant
        trial_scale = select(trial_low > ZERO, sum_xq / sum_qq, trial_scale)
        trial_low = select(trial_low > ZERO, ZERO, trial_low)
        error = _error(x, w, n, trial_scale, trial_low, absolute, levels)
        better = (determinant > ZERO) & (error < best)
        best = select(better, error, best)
        best_per_step, best_low = select(better, per_step, best_per_step), select(better, low, best_low)
        scale = select(better, trial_scale, scale)
        low = select(better, trial_low, low)  # the next candidates start from it
    for i in range(n):
        q = clamp(nearest(best_per_step * (load(x, LANES * i) - best_low)), ZERO, top)
        store(levels, LANES * i, select(flat, ZERO, q))
    return scale, ZERO - low


@compiled
def _range_and_sums(x: Floats, w: Floats, n: int) -> tuple[F32x16, F32x16, F32x16, F32x16]:
    """The least number, at most 0, the greatest, and the sums of w and w x."""
    low = high = load(x, 0)
    sum_w = load(w, 0)
    sum_x = sum_w * low
    for i in range(1, n):
        value, weight = load(x, LANES * i), load(w, LANES * i)
        low = select(value < low, value, low)
        high = select(value > high, value, high)
        sum_w += weight
        sum_x += weight * value
    return select(low > ZERO, ZERO, low), high, sum_w, sum_x


@compiled
def _moments(
    x: Floats, w: Floats, n: int, per_step: F32x16, low: F32x16, top: np.float32, levels: Floats
) -> tuple[F32x16, F32x16, F32x16]:
    """Sums of w q, w q q and w q x, where q is (x - low) * per_step rounded into 0..top; stores q."""
    sum_q = sum_qq = sum_xq = splat(ZERO)
    for i in range(n):
        value = load(x, LANES * i)
        q = clamp(nearest(per_step * (value - low)), ZERO, top)
        store(levels, LANES * i, q)
        weighted = load(w, LANES * i) * q
        sum_q += weighted
        sum_qq += weighted * q
        sum_xq += weighted * value
    return sum_q, sum_qq, sum_xq


@compiled
def _error(
    x: Floats, w: Floats, n: int, scale: F32x16, low: F32x16, absolute: bool, levels: Floats
) -> F32x16:
    """The weighted error of scale * levels + low."""
    error = splat(ZERO)
    for i in range(n):
        difference = scale * load(levels, LANES * i) + low - load(x, LANES * i)
        if absolute:
            error += load(w, LANES * i) * magnitude(difference)
        else:
            error += load(w, LANES * i) * (difference * difference)
    return error


@compiled
def descend(x: Floats, w: Floats, n: int, low: np.float32, high: np.float32, levels: Floats) -> F32x16:
    """Scales d that x = d * level fits; moves the whole numbers in `levels`, one at a time, where that helps.

    Given the others, the best level for a weight is known; up to five rounds over the block.
    """
    sum_xq = sum_qq = splat(ZERO)
    for i in range(n):
        value, weight, q = load(x, LANES * i), load(w, LANES * i), load(levels, LANES * i)
        sum_xq += weight * value * q
        sum_qq += weight * q * q
    for _ in range(5):
        changed = splat(ZERO) > ZERO
        for i in range(n):
            value, weight, q = load(x, LANES * i), load(w, LANES * i), load(levels, LANES * i)
            rest_xq, rest_qq = sum_xq - weight * value * q, sum_qq - weight * q * q
            moved = clamp(nearest(value * rest_qq / rest_xq), low, high)
            new_xq, new_qq = rest_xq + weight * value * moved, rest_qq + weight * moved * moved
            better = (rest_xq > ZERO) & (rest_qq > ZERO) & ((moved < q) | (moved > q))
            better = better & (new_xq * new_xq * sum_qq > sum_xq * sum_xq * new_qq)
            store(levels, LANES * i, select(better, moved, q))
            sum_xq, sum_qq = select(better, new_xq, sum_xq), select(better, new_qq, sum_qq)
            changed = changed | better
        if not any_lane(changed):
            break
    return select(sum_qq > ZERO, sum_xq / sum_qq, ZERO)


@compiled
def search_positive_scale(x: Floats, w: Floats, n: int, top: np.float32, levels: Floats) -> F32x16:
    """Scales d for levels 0..top that x = d * level fits, x >= 0; stores the levels.

    The best of 9 candidates, which put the largest x at and up to 0.4 of a step beside `top`, then `descend`.
    """
    peak = splat(ZERO)
    for i in range(n):
        value = load(x, LANES * i)
        peak = select(value > peak, value, peak)
    best_per_step = top / peak
    best = _error_of_scale(x, w, n, best_per_step, top)
    for candidate in range(-4, 5):
        if candidate == 0:
            continue
        per_step = (np.float32(0.1) * np.float32(candidate) + top) / peak
        error = _error_of_scale(x, w, n, per_step, top)
        better = error < best
        best, best_per_step = select(better, error, best), select(better, per_step, best_per_step)
    empty = peak < NOTHING
    for i in range(n):
        q = clamp(nearest(best_per_step * load(x, LANES * i)), ZERO, top)
        store(levels, LANES * i, select(empty, ZERO, q))
    return select(empty, ZERO, descend(x, w, n, ZERO, top, levels))


@compiled
def _error_of_scale(x: Floats, w: Floats, n: int, per_step: F32x16, top: np.float32) -> F32x16:
    scale = ONE / per_step
    error = splat(ZERO)
    for i in range(n):
        value = load(x, LANES * i)
        q = clamp(nearest(per_step * value), ZERO, top)
        difference = value - scale * q
        error += load(w, LANES * i) * difference * difference
    return error

"""The search for the range with the least squared error: of the whole range, which part the levels cover."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.floats import f16_bits, f16_value
from ggufpy.quants.formats.k_search import ZERO, clamp, nearest
from ggufpy.quants.formats.lanes import LANES, load, multiply_add, select, splat, store

Floats = NDArray[np.float32]

_TOGETHER = 64 * LANES  # weights whose errors are summed in f32


@compiled
def least_error(
    groups: Floats,
    step: Floats,
    low: Floats,
    levels: Floats,
    middles: Floats,
    is_flat: bool,
    shares: Floats,
) -> None:
    """Take those of `shares` of step and low, (groups,), that cost least.

    groups: weights that share them, (groups, n), n a multiple of 16. middles: between levels; none for whole
    numbers. is_flat: f16 holds step and low. Shares with minus signs are tried where levels are not
    symmetric.
    """
    has_mirror = levels[0] < 0 and levels[0] != -levels[-1]
    room = np.empty(LANES, np.float32)
    for g in range(len(groups)):
        least, whole, whole_low = np.inf, step[g], low[g]
        for k in range(2 * shares.size if has_mirror else shares.size):
            share = shares[k] if k < shares.size else -shares[k - shares.size]
            a, b = share * whole, share * whole_low
            if is_flat:
                a, b = f16_value(f16_bits(a)), f16_value(f16_bits(b))
            cost = 0.0
            for first in range(0, groups.shape[1], _TOGETHER):
                end = min(first + _TOGETHER, groups.shape[1])
                cost += _error(groups[g, first:end], a, b, levels, middles, room)
            if cost < least:
                least, step[g], low[g] = cost, a, b


@compiled
def _error(
    x: Floats, step: np.float32, low: np.float32, levels: Floats, middles: Floats, room: Floats
) -> np.float64:
    """The sum of squared errors of (n,) weights."""
    inverse, total = np.float32(1) / step if step != 0 else np.float32(0), splat(ZERO)
    for i in range(0, x.size, LANES):
        value = load(x, i) + low
        level = value * inverse
        if middles.size:
            near = splat(levels[0])
            for k in range(middles.size):
                near = select(level > middles[k], levels[k + 1], near)
            level = near
        else:
            level = nearest(clamp(level, levels[0], levels[-1]))
        error = value - step * level
        total = multiply_add(error, error, total)
    store(room, 0, total)
    return np.float64(room.astype(np.float64).sum())

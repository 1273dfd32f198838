"""Coordinate descent on the numbers of a type: each move lowers the cost of a row, (w - w') H (w - w')^T.

Kept up to date is g = (w - w') H. Moves: a code to the level nearest to w'_i + g_i / H_ii; the scales of a
sub-block and all its codes, from its best real values w'_b + g_b H_bb^-1, whose rounding costs the sum of
e_i^2 with U of H_bb (as in feedback.py); and d, then m, of a block along the line on which they move it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.columns import (
    Columns,
    Room,
    Shape,
    as_f16,
    columns_of,
    in_parts,
    inverse_of,
    level_of,
    load_scales,
    panels,
    put_columns,
    room_for,
    search_scales,
    shape_of,
    store_scales,
    transposed,
    trials_of,
)
from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.k_search import ZERO
from ggufpy.quants.formats.lanes import (
    LANES,
    F32x16,
    any_lane,
    load,
    magnitude,
    multiply_add,
    select,
    splat,
    store,
)
from ggufpy.quants.grids import Grid, Parts
from ggufpy.quants.moment import Moment, PanelMoments

Floats = NDArray[np.float32]

_LEAST = 5e-4  # of the cost: a sweep that gains less is the last


class _Own(NamedTuple):
    """Of a sub-block of 16 rows, (sub * 16,): g, what x has moved by, and values to round."""

    g: Floats
    moved: Floats
    values: Floats


def descend(goal: Floats, moment: Moment, grid: Grid, parts: Parts, threads: int, *, sweeps: int = 3) -> None:
    """Move `parts` (rows, n) towards `goal`."""
    h, moments = moment.h, moment.panels(grid.sub)
    shape, trials = shape_of(grid), trials_of(grid)

    def work(rows: slice) -> None:
        columns, aim = columns_of(parts, grid, rows), transposed(goal[rows])
        x = transposed(grid.values(parts.of(rows)))
        before = np.inf
        for _ in range(sweeps):
            g: Floats = np.matmul(h, aim - x)
            cost = float(np.vdot(aim - x, g))
            if cost > before * (1 - _LEAST):
                break
            before = cost
            for number, (begin, end) in enumerate(panels(goal.shape[1])):
                old, numbers = x[begin:end].copy(), columns.flat(shape, begin, end)
                own_x, own_g = x[begin:end].reshape(-1), g[begin:end].reshape(-1)
                _descend_panel(own_x, own_g, moments[number], shape, trials, numbers)
                g[end:] -= h[end:, begin:end] @ (x[begin:end] - old)
        put_columns(columns, parts, grid, rows)

    in_parts(work, len(goal), threads)


@compiled
def _descend_panel(
    x: Floats, g: Floats, moments: PanelMoments, shape: Shape, trials: Floats, numbers: Columns
) -> None:
    """One sweep over some columns of all rows: x, g (n, rows)."""
    sub = shape.sub
    n = moments.diagonals.size
    rows, room = x.size // n, room_for(sub)
    own = _Own(room.left.copy(), room.left.copy(), room.left.copy())
    line, moment = np.empty(shape.block * LANES, np.float32), np.empty(n * LANES, np.float32)
    for b in range(n // sub):
        triangle = moments.triangles[b * sub * sub : (b + 1) * sub * sub]
        diagonal = moments.diagonals[b * sub : (b + 1) * sub]
        for at in range(0, rows, LANES):
            load_scales(numbers, shape, b, rows, at, room)
            _move_codes(x, g, moments.h, shape, numbers.levels, b, rows, at, room, own)
            limit = _free_values(x, moments.inverses, shape, b, rows, at, own)
            before = limit
            best = search_scales(own.values, LANES, 0, triangle, diagonal, shape, trials, limit, room)
            if any_lane(best < before):
                _take_scales(x, shape, numbers, b, rows, at, best < before, room, own)
            _pass_on(g, moments.h, sub, b, rows, at, own.moved)
    if shape.has_powers:
        return
    for a in range(n // shape.block):
        for at in range(0, rows, LANES):
            _move_block(x, g, moments.h, shape, numbers, a, rows, at, line, moment, False)
            if shape.has_minimum:
                _move_block(x, g, moments.h, shape, numbers, a, rows, at, line, moment, True)


@compiled
def _move_codes(
    x: Floats,
    g: Floats,
    h: Floats,
    shape: Shape,
    levels: Floats,
    b: int,
    rows: int,
    at: int,
    room: Room,
    own: _Own,
) -> None:
    """Codes of a sub-block, twice over; own.g is g after that."""
    sub = shape.sub
    n, first = x.size // rows, b * sub
    step = load(room.scales, 0) * load(room.scales, 2 * LANES)
    low = load(room.scales, LANES) * load(room.scales, 3 * LANES)
    inverse = inverse_of(step)
    for i in range(sub):
        store(own.g, i * LANES, load(g, (first + i) * rows + at))
        store(own.moved, i * LANES, splat(ZERO))
    for _ in range(2):
        for i in range(sub):
            place, curve = (first + i) * rows + at, h[(first + i) * n + first + i]
            now, slope = load(x, place), load(own.g, i * LANES)
            level = level_of((now + slope * (np.float32(1) / curve) + low) * inverse, shape)
            by = step * level - low - now
            gain = (slope + slope - by * curve) * by
            is_better = gain > np.float32(1e-7) * curve * step * step
            if any_lane(is_better):
                by = select(is_better, by, splat(ZERO))
                store(x, place, now + by)
                store(levels, place, select(is_better, level, load(levels, place)))
                store(own.moved, i * LANES, load(own.moved, i * LANES) + by)
                _pass_within(own.g, h, n, first, first + i, sub, by)


@compiled
def _pass_within(own_g: Floats, h: Floats, n: int, first: int, i: int, sub: int, by: F32x16) -> None:
    """G of a sub-block from column `first` on, after column i has moved."""
    negative = splat(ZERO) - by
    for j in range(sub):
        place = j * LANES
        store(own_g, place, multiply_add(negative, h[i * n + first + j], load(own_g, place)))


@compiled
def _free_values(x: Floats, inverses: Floats, shape: Shape, b: int, rows: int, at: int, own: _Own) -> F32x16:
    """own.values: what a sub-block would be if it could be anything; what that gains."""
    sub, gain = shape.sub, splat(ZERO)
    for i in range(sub):
        free = splat(ZERO)
        for j in range(sub):
            free = multiply_add(load(own.g, j * LANES), inverses[(b * sub + i) * sub + j], free)
        store(own.values, i * LANES, load(x, (b * sub + i) * rows + at) + free)
        gain = multiply_add(free, load(own.g, i * LANES), gain)
    return gain * np.float32(0.99999)


@compiled
def _take_scales(
    x: Floats,
    shape: Shape,
    numbers: Columns,
    b: int,
    rows: int,
    at: int,
    is_better: F32x16,
    room: Room,
    own: _Own,
) -> None:
    """Scales and levels that were found for a sub-block, where they are better."""
    store_scales(numbers, shape, b, rows, at, room)
    step = load(room.scales, 0) * load(room.scales, 2 * LANES)
    low = load(room.scales, LANES) * load(room.scales, 3 * LANES)
    for i in range(shape.sub):
        place = (b * shape.sub + i) * rows + at
        level, now = load(room.best_levels, i * LANES), load(x, place)
        by = select(is_better, step * level - low - now, splat(ZERO))
        store(x, place, now + by)
        store(numbers.levels, place, select(is_better, level, load(numbers.levels, place)))
        store(own.moved, i * LANES, load(own.moved, i * LANES) + by)


@compiled
def _pass_on(g: Floats, h: Floats, sub: int, b: int, rows: int, at: int, moved: Floats) -> None:
    """G of all columns, after a sub-block has moved."""
    n = g.size // rows
    for i in range(0, sub * LANES, LANES):
        store(moved, i, splat(ZERO) - load(moved, i))
    for j in range(n):
        value = load(g, j * rows + at)
        for i in range(sub):
            value = multiply_add(load(moved, i * LANES), h[j * n + b * sub + i], value)
        store(g, j * rows + at, value)


@compiled
def _move_block(
    x: Floats,
    g: Floats,
    h: Floats,
    shape: Shape,
    numbers: Columns,
    a: int,
    rows: int,
    at: int,
    line: Floats,
    moment: Floats,
    is_minimum: bool,
) -> None:
    """D or m of a block, along the line on which it moves the block."""
    n, block, first = x.size // rows, shape.block, a * shape.block
    slope, curve = splat(ZERO), splat(ZERO)
    for i in range(block):
        scale = (first + i) // shape.sub * rows + at
        place = (first + i) * rows + at
        if is_minimum:
            value = splat(ZERO) - load(numbers.t, scale)
        else:
            value = load(numbers.s, scale) * load(numbers.levels, place)
        store(line, i * LANES, value)
        slope = multiply_add(value, load(g, place), slope)
    for j in range(n):
        total = splat(ZERO)
        for i in range(block):
            total = multiply_add(load(line, i * LANES), h[j * n + first + i], total)
        store(moment, j * LANES, total)
    for i in range(block):
        curve = multiply_add(load(line, i * LANES), load(moment, (first + i) * LANES), curve)
    scales = numbers.m if is_minimum else numbers.d
    old = load(scales, a * rows + at)
    new = as_f16(old + slope * inverse_of(curve))
    by = new - old
    is_better = ((slope + slope - by * curve) * by > ZERO) & (magnitude(new) <= np.float32(65504))
    if is_minimum and shape.ranges[2] >= 0:
        is_better = is_better & (new >= ZERO)
    by = select(is_better, by, splat(ZERO))
    store(scales, a * rows + at, select(is_better, new, old))
    for i in range(block):
        place = (first + i) * rows + at
        store(x, place, multiply_add(by, load(line, i * LANES), load(x, place)))
    negative = splat(ZERO) - by
    for j in range(n):
        place = j * rows + at
        store(g, place, multiply_add(negative, load(moment, j * LANES), load(g, place)))

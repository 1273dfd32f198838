"""The numbers of a tensor, column by column, and searches over 16 rows of them in lockstep.

All arrays are (columns, rows) f32, rows a multiple of 16, so that a vector has one column of 16 rows. Codes
are the levels themselves, not their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.k_search import ONE, ZERO, clamp, nearest
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

Floats = NDArray[np.float32]

_PANEL = 256  # columns: all blocks end there
_ROWS = 128  # that a thread takes at a time


class Columns(NamedTuple):
    """d, m (blocks, rows), s, t (sub-blocks, rows), levels (n, rows); or these flat."""

    d: Floats
    m: Floats
    s: Floats
    t: Floats
    levels: Floats

    def flat(self, shape: Shape, begin: int, end: int) -> Columns:
        """Views of some columns, as compiled functions take them."""
        blocks = slice(begin // shape.block, end // shape.block)
        subs = slice(begin // shape.sub, end // shape.sub)
        parts = (self.d[blocks], self.m[blocks], self.s[subs], self.t[subs], self.levels[begin:end])
        return Columns(*(part.reshape(-1) for part in parts))


class Shape(NamedTuple):
    """What compiled functions know of a grid. middles: between levels; ranges: of s, then of t."""

    block: int
    sub: int
    levels: Floats
    middles: Floats
    is_uniform: bool
    is_flat: bool
    has_minimum: bool
    has_powers: bool
    ranges: Floats


def shape_of(grid: Grid) -> Shape:
    """Of a grid."""
    levels = grid.levels
    is_uniform = bool((np.diff(levels) == 1).all())
    ranges = np.array([*grid.s_range, *grid.t_range], np.float32)
    middles: Floats = (levels[1:] + levels[:-1]) / np.float32(2)
    kinds = (is_uniform, grid.is_flat, grid.has_minimum, grid.has_powers)
    return Shape(grid.block, grid.sub, levels, middles, *kinds, ranges)


def panels(n: int) -> Iterator[tuple[int, int]]:
    """Columns that are worked on together, from .. to."""
    for begin in range(0, n, _PANEL):
        yield begin, min(begin + _PANEL, n)


def in_parts(work: Callable[[slice], None], rows: int, threads: int) -> None:
    """Let threads work on all rows, some at a time; how many does not depend on the threads."""
    step = _ROWS if rows > 2 * _ROWS else LANES
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, (slice(first, min(first + step, rows)) for first in range(0, rows, step))))


def transposed(values: NDArray[np.generic]) -> Floats:
    """(rows, n) -> (n, rows), with rows of zeros up to a multiple of 16."""
    rows, n = values.shape
    result = np.zeros((n, -(-rows // LANES) * LANES), np.float32)
    result[:, :rows] = values.T
    return result


def columns_of(parts: Parts, grid: Grid, rows: slice) -> Columns:
    """The numbers of some rows."""
    d, m, s, t = (transposed(each[rows]) for each in (parts.d, parts.m, parts.s, parts.t))
    return Columns(d, m, s, t, transposed(grid.levels[parts.q[rows]]))


def put_columns(columns: Columns, parts: Parts, grid: Grid, rows: slice) -> None:
    """The inverse of columns_of."""
    d, m, s, t, levels = (each.T[: len(parts.d[rows])] for each in columns)
    parts.d[rows], parts.m[rows], parts.s[rows], parts.t[rows] = d, m, s, t
    parts.q[rows] = np.searchsorted(grid.levels, levels)


def trials_of(grid: Grid) -> Floats:
    """What is tried for the scales of a sub-block, the present ones first: rows (a, b, mirrored).

    Of a type with scales of sub-blocks, s becomes s + a, or a - s if mirrored, and t becomes t + b; of others
    d becomes d (1 + a), and m moves by b steps.
    """
    if grid.has_powers:
        moves = [(0.0, 0.0, 0.0), (-0.5, 0.0, 0.0), (-0.75, 0.0, 0.0), (1.0, 0.0, 0.0)]
    elif grid.is_flat:
        steps = range(-2, 3) if grid.has_minimum else (0,)
        moves = [(0.02 * a, 0.25 * b, 0.0) for a in range(-6, 7) for b in steps]
    elif grid.has_minimum:
        moves = [(float(a), float(b), 0.0) for a in range(-2, 3) for b in range(-2, 3)]
    else:
        moves = [(float(a), 0.0, 0.0) for a in range(-4, 5)]
        if grid.levels[0] != -grid.levels[-1]:  # the other sign of a scale is another grid
            moves += [(float(a), 0.0, 1.0) for a in range(-2, 3)]
    return np.array(sorted(moves, key=lambda move: (move[2], abs(move[0]) + abs(move[1]))), np.float32)


class Room(NamedTuple):
    """Memory of a search: (sub * 16,) each, and for scales (4 * 16,): d, m, s, t."""

    left: Floats
    levels: Floats
    errors: Floats
    best_levels: Floats
    best_errors: Floats
    scales: Floats


@compiled
def room_for(sub: int) -> Room:
    """For sub-blocks of so many weights."""
    n = sub * LANES
    a, b, c = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
    return Room(a, b, c, np.empty(n, np.float32), np.empty(n, np.float32), np.empty(4 * LANES, np.float32))


@compiled
def level_of(x: F32x16, shape: Shape) -> F32x16:
    """The nearest level."""
    result = splat(shape.levels[0])
    if shape.is_uniform:
        result = nearest(clamp(x, shape.levels[0], shape.levels[-1]))
    else:
        for k in range(shape.middles.size):
            result = select(x > shape.middles[k], splat(shape.levels[k + 1]), result)
    return result


@compiled
def inverse_of(step: F32x16) -> F32x16:
    """1 / step, or 0."""
    return select(step == ZERO, splat(ZERO), ONE / step)


@compiled
def as_f16(x: F32x16) -> F32x16:
    """Rounded to what f16 can hold, if that is within its range."""
    half = np.float32(0.75)  # below 2^-14 f16 counts in 2^-24, as f32 does around 0.75
    small = (x + half) - half
    scaled = x * np.float32(8193)
    return select(magnitude(x) < np.float32(2**-14), small, scaled - (scaled - x))


@compiled
def _cost(
    value: Floats,
    stride: int,
    at: int,
    triangle: Floats,
    inverses: Floats,
    step: F32x16,
    low: F32x16,
    shape: Shape,
    limit: F32x16,
    room: Room,
) -> F32x16:
    """Sub-blocks with these scales in room.levels, .errors; the sums of errors^2, if below `limit`."""
    n, inverse, cost = shape.sub, inverse_of(step), splat(ZERO)
    for i in range(n):
        store(room.left, LANES * i, load(value, at + i * stride))
    for i in range(n):
        x = load(room.left, LANES * i)
        level = level_of((x + low) * inverse, shape)
        error = (x - (step * level - low)) * inverses[i]
        store(room.levels, LANES * i, level)
        store(room.errors, LANES * i, error)
        cost = multiply_add(error, error, cost)
        if not any_lane(cost < limit):
            break
        negative = splat(ZERO) - error
        for j in range(i + 1, n):
            store(
                room.left, LANES * j, multiply_add(negative, triangle[i * n + j], load(room.left, LANES * j))
            )
    return cost


@compiled
def search_scales(
    value: Floats,
    stride: int,
    at: int,
    triangle: Floats,
    inverses: Floats,
    shape: Shape,
    trials: Floats,
    limit: F32x16,
    room: Room,
) -> F32x16:
    """Sub-blocks of 16 rows with the scales that cost least, if less than `limit`; the costs.

    room.scales has the present scales, and then the best; .best_levels and .best_errors what is rounded with
    them, where a trial was below the limit.
    """
    d, m = load(room.scales, 0), load(room.scales, LANES)
    s, t = load(room.scales, 2 * LANES), load(room.scales, 3 * LANES)
    r = shape.ranges
    for k in range(trials.shape[0]):
        new_d, new_m, new_s, new_t = d, m, s, t
        if shape.is_flat:
            new_d = d * (ONE + trials[k, 0])
            if not shape.has_powers:
                new_d = as_f16(new_d)
            if shape.has_minimum:
                new_m = as_f16(multiply_add(d, trials[k, 1], m))
            most = np.float32(65504)
            is_allowed = (magnitude(new_d) <= most) & (magnitude(new_m) <= most)
            if shape.has_powers:
                is_allowed = is_allowed & (new_d >= np.float32(2**-128))
        else:
            new_s = trials[k, 0] - s if trials[k, 2] > 0 else s + trials[k, 0]
            new_t = t + trials[k, 1]
            is_allowed = (new_s >= r[0]) & (new_s <= r[1]) & (new_t >= r[2]) & (new_t <= r[3])
        cost = _cost(value, stride, at, triangle, inverses, new_d * new_s, new_m * new_t, shape, limit, room)
        is_better = (cost < limit) & is_allowed
        if any_lane(is_better):
            limit = select(is_better, cost, limit)
            _take(is_better, new_d, new_m, new_s, new_t, room)
    return limit


@compiled
def _take(is_better: F32x16, d: F32x16, m: F32x16, s: F32x16, t: F32x16, room: Room) -> None:
    """These scales, and what was rounded with them, are the best so far where `is_better`."""
    store(room.scales, 0, select(is_better, d, load(room.scales, 0)))
    store(room.scales, LANES, select(is_better, m, load(room.scales, LANES)))
    store(room.scales, 2 * LANES, select(is_better, s, load(room.scales, 2 * LANES)))
    store(room.scales, 3 * LANES, select(is_better, t, load(room.scales, 3 * LANES)))
    for i in range(0, room.levels.size, LANES):
        store(room.best_levels, i, select(is_better, load(room.levels, i), load(room.best_levels, i)))
        store(room.best_errors, i, select(is_better, load(room.errors, i), load(room.best_errors, i)))


@compiled
def load_scales(columns: Columns, shape: Shape, b: int, rows: int, at: int, room: Room) -> None:
    """The scales of sub-block b of 16 rows from `at` on."""
    a = b * shape.sub // shape.block
    store(room.scales, 0, load(columns.d, a * rows + at))
    store(room.scales, LANES, load(columns.m, a * rows + at))
    store(room.scales, 2 * LANES, load(columns.s, b * rows + at))
    store(room.scales, 3 * LANES, load(columns.t, b * rows + at))


@compiled
def store_scales(columns: Columns, shape: Shape, b: int, rows: int, at: int, room: Room) -> None:
    """The inverse of load_scales."""
    a = b * shape.sub // shape.block
    store(columns.d, a * rows + at, load(room.scales, 0))
    store(columns.m, a * rows + at, load(room.scales, LANES))
    store(columns.s, b * rows + at, load(room.scales, 2 * LANES))
    store(columns.t, b * rows + at, load(room.scales, 3 * LANES))

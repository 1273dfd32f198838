"""Coordinate descent on the numbers of a codebook type: as in descent.py, with points in place of levels.

Moves: the points of 8 weights, and then the scale and all points of a sub-block, from their best real values
w'_b + g_b H_bb^-1, if that costs less; and d of a block.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.codebook_feedback import Numbers, load_hints, numbers_of, put_numbers, store_points
from ggufpy.quants.codebook_points import UNIT, Book, Metric, Room, book_of, metric_of, room_for
from ggufpy.quants.codebook_search import search_points, search_scales
from ggufpy.quants.codebooks import BLOCK, Codebook, Points
from ggufpy.quants.columns import as_f16, in_parts
from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.lanes import LANES, least_lane, load, multiply_add, splat, store
from ggufpy.quants.moment import Moment, PanelMoments

Floats = NDArray[np.float32]

_LEAST = 5e-4  # of the cost: a sweep that gains less is the last
_CLEARLY = np.float32(0.99999)


class _Desk(NamedTuple):
    """Of a sub-block: g, what x has moved by, and values to round; (sub,)."""

    g: Floats
    moved: Floats
    values: Floats


def descend(
    goal: Floats, moment: Moment, codebook: Codebook, parts: Points, threads: int, *, sweeps: int = 3
) -> None:
    """Move `parts` (rows, n) towards `goal`."""
    book, h, units, subs = book_of(codebook), moment.h, moment.panels(UNIT), moment.panels(codebook.sub)

    def work(rows: slice) -> None:
        own, aim = parts.of(rows), goal[rows]
        x, before = codebook.values(own), np.inf
        for _ in range(sweeps):
            g: Floats = np.matmul(aim - x, h)
            cost = float(np.vdot(aim - x, g))
            if cost > before * (1 - _LEAST):
                break
            before = cost
            for block in range(goal.shape[1] // BLOCK):
                begin, end = block * BLOCK, (block + 1) * BLOCK
                old, numbers = x[:, begin:end].copy(), numbers_of(own, book, block)
                own_x, own_g = old.copy(), g[:, begin:end].copy()
                moments = units[block], subs[block]
                _descend_block(own_x.reshape(-1), own_g.reshape(-1), *moments, book, numbers)
                put_numbers(numbers, own, book, block)
                x[:, begin:end] = own_x
                g[:, end:] -= (own_x - old) @ h[begin:end, end:]

    in_parts(work, len(goal), threads)


@compiled
def _descend_block(
    x: Floats, g: Floats, units: PanelMoments, subs: PanelMoments, book: Book, numbers: Numbers
) -> None:
    """One sweep over a block of all rows: x, g (rows * BLOCK,)."""
    sub, rows, room = book.sub, numbers.d.size, room_for(book)
    n, m = sub * sub, UNIT * sub
    desk = _Desk(np.empty(sub, np.float32), np.empty(sub, np.float32), np.empty(sub, np.float32))
    for b in range(BLOCK // sub):
        metric = metric_of(subs.triangles[b * n : (b + 1) * n], sub, book.dims)
        triangles, inverses = units.triangles[b * m : (b + 1) * m], units.inverses[b * m : (b + 1) * m]
        roots = _roots_of_units(triangles, book)
        for row in range(rows):
            at = row * BLOCK + b * sub
            own_x = x[at : at + sub]
            desk.g[:], desk.moved[:] = g[at : at + sub], own_x
            _move_units(own_x, triangles, roots, inverses, subs.h, book, numbers, row, b, room, desk)
            _move_sub(own_x, metric, subs.inverses[b * n : (b + 1) * n], book, numbers, row, b, room, desk)
            desk.moved[:] -= own_x
            _pass_on(g[row * BLOCK : (row + 1) * BLOCK], subs.h, b * sub, desk.moved)
    line, moment = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for row in range(rows):
        own = slice(row * BLOCK, (row + 1) * BLOCK)
        _move_d(x[own], g[own], subs.h, book, numbers, row, line, moment)


@compiled
def _roots_of_units(triangles: Floats, book: Book) -> Floats:
    """Those of metric_of for each 8 columns, side by side."""
    size, roots = UNIT * UNIT, np.empty(triangles.size // UNIT * book.dims, np.float32)
    for k in range(triangles.size // size):
        metric = metric_of(triangles[k * size : (k + 1) * size], UNIT, book.dims)
        roots[k * UNIT * book.dims : (k + 1) * UNIT * book.dims] = metric.roots
    return roots


@compiled
def _move_units(
    x: Floats,
    triangles: Floats,
    roots: Floats,
    inverses: Floats,
    h: Floats,
    book: Book,
    numbers: Numbers,
    row: int,
    b: int,
    room: Room,
    desk: _Desk,
) -> None:
    """The points of sub-block b, 8 weights at a time; desk.g is g after that."""
    per_unit, size, wide = UNIT // book.dims, UNIT * UNIT, UNIT * book.dims
    step, shift = numbers.d[row] * book.factors[numbers.s[row, b]], book.shifts[numbers.s[row, b]]
    for unit in range(x.size // UNIT):
        at, number = unit * UNIT, b * (x.size // UNIT) + unit
        limit = _free_values(x, at, UNIT, inverses[unit * size : (unit + 1) * size], desk)
        places = numbers.places[row, number * per_unit : (number + 1) * per_unit]
        room.places[:per_unit] = places
        metric = Metric(triangles[unit * size : (unit + 1) * size], roots[unit * wide : (unit + 1) * wide])
        cost = search_points(desk.values[:UNIT], metric, step, shift, limit, book, room)
        if cost < limit:
            places[:] = room.places[:per_unit]
            numbers.signs[row, number] = room.signs[0]
            for i in range(UNIT):
                by = step * room.levels[i] - x[at + i]
                x[at + i] += by
                column = b * x.size + at + i
                for j in range(x.size):
                    desk.g[j] -= by * h[column * BLOCK + b * x.size + j]


@compiled
def _move_sub(
    x: Floats,
    metric: Metric,
    inverses: Floats,
    book: Book,
    numbers: Numbers,
    row: int,
    b: int,
    room: Room,
    desk: _Desk,
) -> None:
    """The scale of sub-block b with all its points."""
    d, s = numbers.d[row], numbers.s[row, b]
    limit = _free_values(x, 0, x.size, inverses, desk)
    load_hints(numbers, row, b, book, room)
    cost, best = search_scales(desk.values, metric, d, s, limit, book, room)
    if cost < limit:
        numbers.s[row, b] = best
        store_points(numbers, row, b, book, room)
        step = d * book.factors[best]
        for i in range(x.size):
            x[i] = step * room.best_levels[i]


@compiled
def _free_values(x: Floats, at: int, n: int, inverses: Floats, desk: _Desk) -> np.float32:
    """desk.values: what n columns would be if they could be anything; what that gains."""
    gain = np.float32(0)
    for i in range(n):
        free = np.float32(0)
        for j in range(n):
            free += desk.g[at + j] * inverses[i * n + j]
        desk.values[i] = x[at + i] + free
        gain += free * desk.g[at + i]
    return gain * _CLEARLY


@compiled
def _pass_on(g: Floats, h: Floats, first: int, moved: Floats) -> None:
    """G of a block, after columns from `first` on have moved by -`moved`."""
    for j in range(0, BLOCK, LANES):
        value = load(g, j)
        for i in range(moved.size):
            value = multiply_add(load(h, (first + i) * BLOCK + j), moved[i], value)
        store(g, j, value)


@compiled
def _move_d(
    x: Floats, g: Floats, h: Floats, book: Book, numbers: Numbers, row: int, line: Floats, moment: Floats
) -> None:
    """D of a row's block, along the line on which it moves the block."""
    slope, curve, old = np.float32(0), np.float32(0), numbers.d[row]
    stride = book.points.size // book.dims
    for i in range(BLOCK):
        s = numbers.s[row, i // book.sub]
        level = book.points[i % book.dims * stride + numbers.places[row, i // book.dims]]
        if numbers.signs[row, i // UNIT] >> (i % UNIT) & 1:
            level = -level
        line[i] = book.factors[s] * (level + book.shifts[s])
        slope += line[i] * g[i]
    moment[:] = 0
    _pass_on(moment, h, 0, line)
    for i in range(BLOCK):
        curve += line[i] * moment[i]
    if curve > 0:
        new = least_lane(as_f16(splat(old + slope / curve)))
        by = new - old
        if (slope + slope - by * curve) * by > 0 and np.abs(new) <= np.float32(65504):
            numbers.d[row] = new
            for i in range(BLOCK):
                x[i] = new * line[i]
                g[i] -= by * moment[i]

"""Points for the weights of a sub-block, and its scale, when errors are made up for in later columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.codebook_points import BOTH, EITHER, EVEN, INF, ODD, UNIT, Book, Metric, Room, find
from ggufpy.quants.formats.compiled import compiled

Floats = NDArray[np.float32]

_STEPS = np.array([0, -1, 1, -2, 2])  # of a scale's number, that are tried


@compiled
def search_scales(
    values: Floats,
    metric: Metric,
    d: np.float32,
    s: int,
    limit: np.float32,
    book: Book,
    room: Room,
) -> tuple[np.float32, int]:
    """The number of the scale near `s` that costs least, and what, if less than `limit`.

    Then room.best_levels, .best_errors, .best_places and .best_signs say how.
    """
    scales = 16 if book.has_signs else 8  # of one shift
    best = s
    for k in range(_STEPS.size):
        scale = s % scales + _STEPS[k]
        if scale < 0 or scale >= scales:
            continue
        for other in range(0, book.factors.size, scales):
            number = scale + (s // scales * scales + other) % book.factors.size
            step = d * book.factors[number]
            cost = search_points(values, metric, step, book.shifts[number], limit, book, room)
            if cost < limit:
                limit, best = cost, number
                room.best_levels[:], room.best_errors[:] = room.levels, room.errors
                room.best_places[:], room.best_signs[:] = room.places, room.signs
    return limit, best


@compiled
def search_points(
    values: Floats,
    metric: Metric,
    step: np.float32,
    shift: np.float32,
    limit: np.float32,
    book: Book,
    room: Room,
) -> np.float32:
    """What rounding `values` (n,) costs with this step, if less than `limit`.

    Then room.levels, .errors, .places (of points, sorted) and .signs say how.
    """
    cost = np.float32(0)
    for i in range(values.size):
        room.left[i] = values[i] - step * shift
    for at in range(0, values.size, UNIT):
        least = limit - cost
        if book.is_even and book.dims < UNIT:
            cost += _pair(at, metric, step, least, book, room)
        else:
            wanted = EVEN if book.is_even or not book.has_signs else EITHER
            room.signs[at // UNIT] = 0
            for first in range(at, at + UNIT, book.dims):
                cost += _one(first, metric, step, limit - cost, wanted, book, room)
        if not cost < limit:
            return INF
    for i in range(values.size):
        room.levels[i] += shift
    return cost


@compiled
def _one(
    at: int, metric: Metric, step: np.float32, limit: np.float32, wanted: int, book: Book, room: Room
) -> np.float32:
    """The best point from column `at` on; what it costs, if less than `limit`."""
    if not limit > 0:
        return INF
    find(room.left, at, metric, step, limit, wanted, book, room)
    found = room.odd if wanted == ODD or (wanted == EITHER and room.odd[0] < room.even[0]) else room.even
    cost: np.float32 = found[0]
    if not cost < limit:
        return INF
    _round(room.left, at, found, metric, step, book, room)
    return cost


@compiled
def _pair(at: int, metric: Metric, step: np.float32, limit: np.float32, book: Book, room: Room) -> np.float32:
    """The best two points from column `at` on, whose signs are an even number together."""
    half, best = at + book.dims, limit
    find(room.left, at, metric, step, limit, BOTH, book, room)
    firsts, found = np.empty((2, 3), np.float32), np.empty((2, 3), np.float32)
    firsts[0], firsts[1] = room.even, room.odd
    chosen = -1
    for k in range(2):
        if firsts[k, 0] < best:
            room.spare[:] = room.left
            _round(room.spare, at, firsts[k], metric, step, book, room)
            find(room.spare, half, metric, step, best - firsts[k, 0], k, book, room)
            found[k] = room.odd if k == ODD else room.even
            if firsts[k, 0] + found[k, 0] < best:
                best, chosen = firsts[k, 0] + found[k, 0], k
    if chosen < 0:
        return INF
    room.signs[at // UNIT] = 0
    _round(room.left, at, firsts[chosen], metric, step, book, room)
    _round(room.left, half, found[chosen], metric, step, book, room)
    return best


@compiled
def _round(
    left: Floats, at: int, found: Floats, metric: Metric, step: np.float32, book: Book, room: Room
) -> None:
    """Take a point, and hand its errors on to what is left of the values."""
    n, stride = metric.roots.size // book.dims, book.points.size // book.dims
    place, signs = int(found[1]), int(found[2])
    room.places[at // book.dims] = place
    room.signs[at // UNIT] |= signs << (at % UNIT)
    for i in range(book.dims):
        level = book.points[i * stride + place]
        if signs >> i & 1:
            level = -level
        error = (left[at + i] - step * level) / metric.triangle[(at + i) * n + at + i]
        room.levels[at + i], room.errors[at + i] = level, error
        for j in range(at + i + 1, n):
            left[j] -= error * metric.triangle[(at + i) * n + j]

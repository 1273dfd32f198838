"""The signed points of a grid that cost least, when their errors are made up for in later columns.

A row v of values becomes w at a cost of sum e_i^2, e_i = (v_i - w_i) / U_ii, each error handed on as
v_j -= e_i U_ij (see feedback.py). A vector has 16 points, side by side on the way through their columns, each
with the best signs so far of which an even, and of which an odd number is negative. Points are sorted, so
that those of a vector begin alike, and are left when what they begin with costs too much.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.codebooks import Codebook
from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.k_search import ZERO
from ggufpy.quants.formats.lanes import (
    LANES,
    F32x16,
    any_lane,
    least_lane,
    load,
    multiply_add,
    select,
    splat,
    store,
)

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]

UNIT = 8  # weights whose signs are chosen together

INF = np.float32(np.inf)
EVEN, ODD, EITHER, BOTH = range(4)  # which numbers of negative weights are wanted


class Book(NamedTuple):
    """What compiled functions know of a codebook; points: (dims * points,), the first level of all first.

    order: which number a point has in the file.
    """

    sub: int
    dims: int
    has_signs: bool
    is_even: bool
    points: Floats
    order: Integers
    factors: Floats
    shifts: Floats


class Metric(NamedTuple):
    """U of some columns, (n, n), and its inverses over the columns of each point, (n, dims); flat."""

    triangle: Floats
    roots: Floats


class Room(NamedTuple):
    """Memory of a search. even, odd: cost, place and signs of what `find` found.

    The others are of `find`, from aims to lanes, or as in codebook_search.py.
    """

    even: Floats
    odd: Floats
    lanes: Floats
    tracks: Floats
    aims: Floats
    slopes: Floats
    left: Floats
    spare: Floats
    levels: Floats
    errors: Floats
    places: Integers
    signs: Integers
    best_levels: Floats
    best_errors: Floats
    best_places: Integers
    best_signs: Integers


def book_of(codebook: Codebook) -> Book:
    """Of a codebook."""
    order = np.lexsort(codebook.points.T[::-1])
    points = np.ascontiguousarray(codebook.points[order].T).reshape(-1)
    kinds = (codebook.sub, codebook.dims, codebook.has_signs, codebook.is_even)
    return Book(*kinds, points, order.astype(np.int32), codebook.factors, codebook.shifts)


@compiled
def room_for(book: Book) -> Room:
    """For sub-blocks of a codebook."""
    n = book.sub
    points, units = n // book.dims, n // UNIT
    return Room(
        np.empty(3, np.float32),
        np.empty(3, np.float32),
        np.empty(6 * LANES, np.float32),
        np.empty(2 * UNIT * LANES, np.float32),
        np.empty(book.dims, np.float32),
        np.empty(book.dims * book.dims, np.float32),
        np.empty(n, np.float32),
        np.empty(n, np.float32),
        np.empty(n, np.float32),
        np.empty(n, np.float32),
        np.zeros(points, np.int32),
        np.zeros(units, np.int32),
        np.empty(n, np.float32),
        np.empty(n, np.float32),
        np.zeros(points, np.int32),
        np.zeros(units, np.int32),
    )


@compiled
def metric_of(triangle: Floats, n: int, dims: int) -> Metric:
    """Of U, (n * n,), of n columns."""
    roots = np.zeros(n * dims, np.float32)
    for at in range(0, n, dims):
        own = roots[at * dims : (at + dims) * dims]
        for i in range(dims):
            inverse = np.float32(1) / triangle[(at + i) * n + at + i]
            own[i * dims + i] = inverse
            for k in range(i):
                total = np.float32(0)
                for j in range(k, i):
                    total += own[k * dims + j] * triangle[(at + j) * n + at + i]
                own[k * dims + i] = -total * inverse
    return Metric(triangle, roots)


@compiled
def find(
    left: Floats,
    at: int,
    metric: Metric,
    step: np.float32,
    limit: np.float32,
    wanted: int,
    book: Book,
    room: Room,
) -> None:
    """The best points for the columns from `at` on, with an even and an odd number of signs."""
    _aim(left, at, metric, step, book, room)
    for i in range(0, 3 * LANES, LANES):
        store(room.lanes, i, splat(INF if i == 0 else np.float32(0)))
        store(room.lanes, i + 3 * LANES, splat(INF if i == 0 else np.float32(0)))
    first = room.places[at // book.dims] // LANES * LANES  # where the last search ended: a good bound early
    if book.has_signs:
        _walk(limit, first, wanted, book.points, room.aims, room.slopes, room.tracks, room.lanes)
    else:
        _walk_without_signs(limit, first, book.points, room.aims, room.slopes, room.lanes)
    _least(room.lanes, 0, room.even)
    _least(room.lanes, 3 * LANES, room.odd)


@compiled
def _aim(left: Floats, at: int, metric: Metric, step: np.float32, book: Book, room: Room) -> None:
    """room.aims: the errors of zeros; .slopes: what a level adds to them."""
    dims = book.dims
    for i in range(dims):
        aim = np.float32(0)
        for k in range(i + 1):
            root = metric.roots[at * dims + k * dims + i]
            aim += left[at + k] * root
            room.slopes[k * dims + i] = -step * root
        room.aims[i] = aim


@compiled
def _least(lanes: Floats, at: int, found: Floats) -> None:
    """The best lane's cost, place and signs."""
    best = 0
    for lane in range(LANES):
        if lanes[at + lane] < lanes[at + best]:
            best = lane
    for k in range(3):
        found[k] = lanes[at + k * LANES + best]
    found[1] += np.float32(best)


@compiled
def _walk(
    limit: np.float32,
    first: int,
    wanted: int,
    points: Floats,
    aims: Floats,
    slopes: Floats,
    tracks: Floats,
    lanes: Floats,
) -> None:
    """All points, those from `first` on before the others, into `lanes`; others cost more."""
    dims, bound = aims.size, limit
    stride, odds = points.size // dims, dims * LANES
    for number in range(0, stride, LANES):
        place = (first + number) % stride
        even, odd, even_signs, odd_signs = splat(ZERO), splat(INF), splat(ZERO), splat(ZERO)
        for i in range(dims):
            a, b, bit = splat(aims[i]), splat(aims[i]), np.float32(1 << i)
            for k in range(i):
                a = multiply_add(load(tracks, k * LANES), slopes[k * dims + i], a)
                b = multiply_add(load(tracks, odds + k * LANES), slopes[k * dims + i], b)
            level = load(points, i * stride + place)
            own = level * slopes[i * dims + i]
            a_plus, a_minus, b_plus, b_minus = a + own, a - own, b + own, b - own
            kept, turned = multiply_add(a_plus, a_plus, even), multiply_add(b_minus, b_minus, odd)
            odd_kept, odd_turned = multiply_add(b_plus, b_plus, odd), multiply_add(a_minus, a_minus, even)
            stays_even, stays_odd = kept <= turned, odd_kept <= odd_turned
            even, odd = select(stays_even, kept, turned), select(stays_odd, odd_kept, odd_turned)
            if not (any_lane(even < bound) or any_lane(odd < bound)):
                break
            signs = select(stays_even, even_signs, odd_signs + bit)
            odd_signs = select(stays_odd, odd_signs, even_signs + bit)
            even_signs = signs
            for k in range(i):
                a, b = load(tracks, k * LANES), load(tracks, odds + k * LANES)
                store(tracks, k * LANES, select(stays_even, a, b))
                store(tracks, odds + k * LANES, select(stays_odd, b, a))
            negative = splat(ZERO) - level
            store(tracks, i * LANES, select(stays_even, level, negative))
            store(tracks, odds + i * LANES, select(stays_odd, level, negative))
        else:
            _keep(lanes, 0, even, place, even_signs)
            _keep(lanes, 3 * LANES, odd, place, odd_signs)
            bound = min(limit, _bound(lanes, wanted))


@compiled
def _bound(lanes: Floats, wanted: int) -> np.float32:
    """What a point must cost less than."""
    even, odd = least_lane(load(lanes, 0)), least_lane(load(lanes, 3 * LANES))
    if wanted == EITHER:
        return min(even, odd)
    if wanted == BOTH:
        return max(even, odd)
    one: np.float32 = even if wanted == EVEN else odd
    return one


@compiled
def _walk_without_signs(
    limit: np.float32, first: int, points: Floats, aims: Floats, slopes: Floats, lanes: Floats
) -> None:
    """The same with levels as they are."""
    dims, bound = aims.size, limit
    stride = points.size // dims
    for number in range(0, stride, LANES):
        place, cost = (first + number) % stride, splat(ZERO)
        for i in range(dims):
            error = splat(aims[i])
            for k in range(i + 1):
                error = multiply_add(load(points, k * stride + place), slopes[k * dims + i], error)
            cost = multiply_add(error, error, cost)
            if not any_lane(cost < bound):
                break
        else:
            _keep(lanes, 0, cost, place, splat(ZERO))
            bound = min(bound, least_lane(load(lanes, 0)))


@compiled
def _keep(lanes: Floats, at: int, cost: F32x16, place: int, signs: F32x16) -> None:
    """Points from `place` on, in the lanes in which they cost less than what is there."""
    least = load(lanes, at)
    is_better = cost < least
    store(lanes, at, select(is_better, cost, least))
    store(lanes, at + LANES, select(is_better, splat(np.float32(place)), load(lanes, at + LANES)))
    store(lanes, at + 2 * LANES, select(is_better, signs, load(lanes, at + 2 * LANES)))

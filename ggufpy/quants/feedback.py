"""GPTQ onto the grid of a type: what rounding one column does to the outputs, the next ones make up for.

With weights w, w' after rounding, and H (n, n) the second moment of the inputs, a row costs
(w - w') H (w - w')^T. Let U be upper triangular with U^T U = H^-1. Rounding column after column, each error
e_i = (v_i - w'_i) / U_ii goes on to later columns as v_j -= e_i U_ij; if those could take any value, the row
would cost the sum of e_i^2. So that sum says which scale a sub-block should have, when its turn comes.
Source: GPTQ (arXiv 2210.17323); scales are searched here while columns are rounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import GgufpyError
from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.floats import f16_bits, f16_value
from ggufpy.quants.grids import Grid, Parts

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]

_PANEL = 256  # columns: all blocks end there
_ROWS = 64  # that one thread takes at a time


def damped(moment: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """The moment, with a share of its mean diagonal added to the diagonal.

    Raises GgufpyError for one with NaN or infinities, or of zeros.
    """
    mean = float(np.diagonal(moment).mean())
    if not np.isfinite(moment).all() or mean <= 0:
        raise GgufpyError("the inputs of a matrix are all zero, or no numbers; take another text")
    return moment + share * mean * np.eye(len(moment))


def upper(moment: NDArray[np.float64]) -> NDArray[np.float64]:
    """U, upper triangular, with U^T U = moment^-1; raises GgufpyError if it is not positive definite."""
    try:
        # From the last column back: moment = T T^T with T upper triangular, so U is the inverse of T.
        triangle = np.linalg.cholesky(moment[::-1, ::-1])[::-1, ::-1]
    except np.linalg.LinAlgError as exc:
        raise GgufpyError(
            "second moments are not positive definite; give more text, or more damping"
        ) from exc
    return np.linalg.inv(triangle)


def trials_of(grid: Grid) -> Floats:
    """What is tried for the scales of a sub-block, the present ones first: rows (a, b, mirrored).

    Of a type with scales of sub-blocks, s becomes s + a, or a - s if mirrored, and t becomes t + b; of others
    d becomes d (1 + a), and m moves by b steps.
    """
    if grid.is_flat:
        steps = range(-2, 3) if grid.has_minimum else (0,)
        moves = [(0.02 * a, 0.25 * b, 0.0) for a in range(-6, 7) for b in steps]
    elif grid.has_minimum:
        moves = [(float(a), float(b), 0.0) for a in range(-2, 3) for b in range(-2, 3)]
    else:
        moves = [(float(a), 0.0, 0.0) for a in range(-4, 5)]
        if grid.levels[0] != -grid.levels[-1]:  # the other sign of a scale is another grid
            moves += [(float(a), 0.0, 1.0) for a in range(-2, 3)]
    return np.array(sorted(moves, key=lambda move: (move[2], abs(move[0]) + abs(move[1]))), np.float32)


def round_with_feedback(goal: Floats, moment_upper: Floats, grid: Grid, start: Parts, threads: int) -> None:
    """Round `goal` (rows, n) column after column into `start`, whose scales the search begins with.

    moment_upper: U of the inputs' moment, f32 (n, n).
    """
    trials = trials_of(grid)

    def work(first: int) -> None:
        rows = slice(first, min(first + _ROWS, len(goal)))
        values = goal[rows].copy()
        for begin, end in panels(goal.shape[1]):
            errors = np.zeros((len(values), end - begin), np.float32)
            numbers = columns_of(start, grid, rows, begin, end)
            triangle = np.ascontiguousarray(moment_upper[begin:end, begin:end])
            panel = np.ascontiguousarray(values[:, begin:end])
            _round_panel(panel, triangle, shape_of(grid), trials, numbers, errors)
            values[:, end:] -= errors @ moment_upper[begin:end, end:]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(0, len(goal), _ROWS)))


def panels(n: int) -> Iterator[tuple[int, int]]:
    """Columns that are worked on together, from .. to."""
    for begin in range(0, n, _PANEL):
        yield begin, min(begin + _PANEL, n)


class Numbers(NamedTuple):
    """Views of the parts of some rows and columns, or of one row."""

    d: Floats
    m: Floats
    s: Integers
    t: Integers
    q: Integers


def columns_of(parts: Parts, grid: Grid, rows: slice, begin: int, end: int) -> Numbers:
    """Views of some rows and columns."""
    blocks, subs = slice(begin // grid.block, end // grid.block), slice(begin // grid.sub, end // grid.sub)
    return Numbers(
        *(parts.d[rows, blocks], parts.m[rows, blocks]),
        *(parts.s[rows, subs], parts.t[rows, subs], parts.q[rows, begin:end]),
    )


class Shape(NamedTuple):
    """What compiled functions know of a grid. ranges: of s, then of t."""

    block: int
    sub: int
    levels: Floats
    is_uniform: bool
    is_flat: bool
    has_minimum: bool
    ranges: Integers


def shape_of(grid: Grid) -> Shape:
    """Of a grid."""
    is_uniform = bool((np.diff(grid.levels) == 1).all())
    ranges = np.array([*grid.s_range, *grid.t_range], np.int32)
    return Shape(grid.block, grid.sub, grid.levels, is_uniform, grid.is_flat, grid.has_minimum, ranges)


@compiled
def nearest_level(value: np.float32, step: np.float32, low: np.float32, shape: Shape) -> int:
    """The number of the level nearest to `value` in step * level - low."""
    levels = shape.levels
    last = levels.size - 1
    if step == 0:
        return 0
    x = (value + low) / step
    if shape.is_uniform:
        return int(np.rint(min(max(x - levels[0], np.float32(0)), np.float32(last))))
    left, right = 0, last
    while right - left > 1:
        middle = (left + right) >> 1
        if x >= levels[middle]:
            left = middle
        else:
            right = middle
    return left if x - levels[left] <= levels[right] - x else right


@compiled
def try_scales(
    value: Floats,
    triangle: Floats,
    step: np.float32,
    low: np.float32,
    shape: Shape,
    limit: np.float32,
    q: Integers,
    error: Floats,
    left: Floats,
) -> np.float32:
    """Round a sub-block with these scales into q and error; the sum of error^2, if that is below `limit`."""
    n = value.size
    cost: np.float32 = np.float32(0)
    for i in range(n):
        left[i] = value[i]
    for i in range(n):
        number = nearest_level(left[i], step, low, shape)
        e = (left[i] - (step * shape.levels[number] - low)) / triangle[i, i]
        q[i], error[i] = number, e
        cost += e * e
        if cost >= limit:
            break
        for j in range(i + 1, n):
            left[j] -= e * triangle[i, j]
    return cost


@compiled
def search_scales(
    value: Floats,
    triangle: Floats,
    shape: Shape,
    trials: Floats,
    limit: np.float32,
    scales: Floats,
    best_q: Integers,
    best_error: Floats,
) -> bool:
    """Whether a trial costs less than `limit`; the best leaves its scales (d, m, s, t), codes and errors."""
    n = value.size
    q, error, left = np.empty(n, np.int32), np.empty(n, np.float32), np.empty(n, np.float32)
    d, m, s, t = scales[0], scales[1], scales[2], scales[3]
    found = False
    for k in range(trials.shape[0]):
        new_d, new_m, new_s, new_t = d, m, s, t
        if shape.is_flat:
            new_d = f16_value(f16_bits(d * (np.float32(1) + trials[k, 0])))
            if shape.has_minimum:
                new_m = f16_value(f16_bits(m + trials[k, 1] * d))
        else:
            new_s = trials[k, 0] - s if trials[k, 2] > 0 else s + trials[k, 0]
            new_t = t + trials[k, 1]
            r = shape.ranges
            if new_s < r[0] or new_s > r[1] or new_t < r[2] or new_t > r[3]:
                continue
        step, low = new_d * new_s, new_m * new_t
        cost = try_scales(value, triangle, step, low, shape, limit, q, error, left)
        if cost < limit:
            limit, found = cost, True
            scales[0], scales[1], scales[2], scales[3] = new_d, new_m, new_s, new_t
            for i in range(n):
                best_q[i], best_error[i] = q[i], error[i]
    return found


@compiled
def _round_panel(
    values: Floats,
    triangle: Floats,
    shape: Shape,
    trials: Floats,
    numbers: Numbers,
    errors: Floats,
) -> None:
    """Sub-block after sub-block of each row; values is used up."""
    rows, n = values.shape
    d, m, s, t, q = numbers
    sub, scales, limit = shape.sub, np.empty(4, np.float32), np.float32(np.inf)
    for b in range(n // sub):
        first, end, a = b * sub, b * sub + sub, b * sub // shape.block
        own = triangle[first:end, first:end].copy()
        for r in range(rows):
            scales[0], scales[1], scales[2], scales[3] = d[r, a], m[r, a], s[r, b], t[r, b]
            value, codes, error = values[r, first:end], q[r, first:end], errors[r, first:end]
            search_scales(value, own, shape, trials, limit, scales, codes, error)
            d[r, a], m[r, a] = scales[0], scales[1]
            s[r, b], t[r, b] = np.int32(scales[2]), np.int32(scales[3])
            for i in range(sub):
                for j in range(end, n):
                    values[r, j] -= error[i] * triangle[first + i, j]

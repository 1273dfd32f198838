"""GPTQ onto the grid of a type: what rounding one column does to the outputs, the next ones make up for.

With weights w, w' after rounding, and H (n, n) the second moment of the inputs, a row costs
(w - w') H (w - w')^T. Let U be upper triangular with U^T U = H^-1. Rounding column after column, each error
e_i = (v_i - w'_i) / U_ii goes on to later columns as v_j -= e_i U_ij; if those could take any value, the row
would cost the sum of e_i^2. So that sum says which scale a sub-block should have, when its turn comes.
Source: GPTQ (arXiv 2210.17323); scales are searched here while columns are rounded.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.columns import (
    Columns,
    Shape,
    columns_of,
    in_parts,
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
from ggufpy.quants.formats.lanes import LANES, load, multiply_add, splat, store
from ggufpy.quants.grids import Grid, Parts
from ggufpy.quants.moment import Moment

Floats = NDArray[np.float32]


def round_with_feedback(goal: Floats, moment: Moment, grid: Grid, start: Parts, threads: int) -> None:
    """Round `goal` (rows, n) column after column into `start`, whose scales the search begins with."""
    trials, shape = trials_of(grid), shape_of(grid)

    def work(rows: slice) -> None:
        values, columns = transposed(goal[rows]), columns_of(start, grid, rows)
        for begin, end in panels(goal.shape[1]):
            errors = np.empty((end - begin, values.shape[1]), np.float32)
            triangle = np.ascontiguousarray(moment.triangle[begin:end, begin:end])
            numbers = columns.flat(shape, begin, end)
            _round_panel(values[begin:end].reshape(-1), triangle, shape, trials, numbers, errors.reshape(-1))
            values[end:] -= moment.triangle[begin:end, end:].T @ errors
        put_columns(columns, start, grid, rows)

    in_parts(work, len(goal), threads)


@compiled
def _round_panel(
    values: Floats, triangle: Floats, shape: Shape, trials: Floats, numbers: Columns, errors: Floats
) -> None:
    """Sub-block after sub-block of each row; values (n, rows) is used up, errors (n, rows) is filled."""
    n, sub = len(triangle), shape.sub
    rows, room, later = values.size // n, room_for(sub), triangle.T.copy()
    for b in range(n // sub):
        first, end = b * sub, b * sub + sub
        own = triangle[first:end, first:end].copy().reshape(-1)
        inverses = np.float32(1) / own[:: sub + 1]
        for at in range(0, rows, LANES):
            load_scales(numbers, shape, b, rows, at, room)
            limit = splat(np.float32(np.inf))
            search_scales(values, rows, first * rows + at, own, inverses, shape, trials, limit, room)
            store_scales(numbers, shape, b, rows, at, room)
            for i in range(sub):
                place = (first + i) * rows + at
                store(numbers.levels, place, load(room.best_levels, LANES * i))
                error = load(room.best_errors, LANES * i)
                store(errors, place, error)
                store(room.left, LANES * i, splat(ZERO) - error)
            for j in range(end, n):
                value = load(values, j * rows + at)
                for i in range(sub):
                    value = multiply_add(load(room.left, LANES * i), later[j, first + i], value)
                store(values, j * rows + at, value)

"""Coordinate descent on the numbers of a type: each move lowers the cost of a row, (w - w') H (w - w')^T.

Kept up to date is g = (w - w') H. Moves: a code to the level nearest to w'_i + g_i / H_ii; the scales of a
sub-block and all its codes, from its best real values w'_b + g_b H_bb^-1, whose rounding costs the sum of
e_i^2 with U of H_bb (as in feedback.py); and d, then m, of a block along the line on which they move it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.feedback import (
    Numbers,
    Shape,
    columns_of,
    nearest_level,
    panels,
    search_scales,
    shape_of,
    trials_of,
    upper,
)
from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.floats import f16_bits, f16_value
from ggufpy.quants.grids import Grid, Parts

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]

_ROWS = 64  # that one thread takes at a time
_LEAST = 5e-4  # of the cost: a sweep that gains less is the last


def descend(
    goal: Floats, moment: NDArray[np.float64], grid: Grid, parts: Parts, threads: int, *, sweeps: int = 3
) -> None:
    """Move `parts` (rows, n) towards `goal`. moment: H of the inputs, positive definite, (n, n)."""
    h: Floats = moment.astype(np.float32)
    own = [moment[i : i + grid.sub, i : i + grid.sub] for i in range(0, len(moment), grid.sub)]
    inverses = np.array([np.linalg.inv(each) for each in own], np.float32)
    triangles = np.array([upper(each) for each in own], np.float32)
    shape, trials = shape_of(grid), trials_of(grid)

    def work(first: int) -> None:
        rows = slice(first, min(first + _ROWS, len(goal)))
        x = grid.values(Parts(parts.d[rows], parts.m[rows], parts.s[rows], parts.t[rows], parts.q[rows]))
        before = np.inf
        for _ in range(sweeps):
            g: Floats = np.matmul(goal[rows] - x, h)
            cost = float(np.vdot(goal[rows] - x, g))
            if cost > before * (1 - _LEAST):
                break
            before = cost
            for begin, end in panels(goal.shape[1]):
                subs = slice(begin // grid.sub, end // grid.sub)
                old = x[:, begin:end].copy()
                new, own_g = old.copy(), np.ascontiguousarray(g[:, begin:end])
                numbers = columns_of(parts, grid, rows, begin, end)
                block = np.ascontiguousarray(h[begin:end, begin:end])
                _descend_panel(new, own_g, block, inverses[subs], triangles[subs], shape, trials, numbers)
                x[:, begin:end] = new
                moved = new - old
                g[:, end:] -= moved @ h[begin:end, end:]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(0, len(goal), _ROWS)))


@compiled
def _move(i: int, by: np.float32, h: Floats, x: Floats, g: Floats) -> None:
    """Value i of a row moves, and g with it."""
    x[i] += by
    for j in range(g.size):
        g[j] -= by * h[i, j]


@compiled
def _move_codes(x: Floats, g: Floats, h: Floats, shape: Shape, row: Numbers) -> None:
    """Codes of one row, up to three times over."""
    d, m, s, t, q = row
    n = x.size
    for _ in range(3):
        moved = 0
        for i in range(n):
            a, b = i // shape.block, i // shape.sub
            step, low = d[a] * np.float32(s[b]), m[a] * np.float32(t[b])
            code = nearest_level(x[i] + g[i] / h[i, i], step, low, shape)
            by = step * shape.levels[code] - low - x[i]
            if code != q[i] and 2 * by * g[i] - by * by * h[i, i] > np.float32(1e-7) * h[i, i] * step * step:
                q[i] = code
                _move(i, by, h, x, g)
                moved += 1
        if moved * 200 < n:
            break


@compiled
def _move_sub_blocks(
    x: Floats,
    g: Floats,
    h: Floats,
    inverses: Floats,
    triangles: Floats,
    shape: Shape,
    trials: Floats,
    row: Numbers,
) -> None:
    """Scales of one row's sub-blocks, together with their codes."""
    d, m, s, t, q = row
    sub = shape.sub
    value, error, scales = np.empty(sub, np.float32), np.empty(sub, np.float32), np.empty(4, np.float32)
    codes = np.empty(sub, np.int32)
    for b in range(x.size // sub):
        first, a = b * sub, b * sub // shape.block
        gain = np.float32(0)
        for i in range(sub):
            free = np.float32(0)
            for j in range(sub):
                free += inverses[b, i, j] * g[first + j]
            value[i] = x[first + i] + free
            gain += free * g[first + i]
        scales[0], scales[1], scales[2], scales[3] = d[a], m[a], s[b], t[b]
        limit = gain * np.float32(0.99999)
        if search_scales(value, triangles[b], shape, trials, limit, scales, codes, error):
            d[a], m[a], s[b], t[b] = scales[0], scales[1], np.int32(scales[2]), np.int32(scales[3])
            step, low = scales[0] * scales[2], scales[1] * scales[3]
            for i in range(sub):
                q[first + i] = codes[i]
                by = step * shape.levels[codes[i]] - low - x[first + i]
                if by != 0:
                    _move(first + i, by, h, x, g)


@compiled
def _move_blocks(x: Floats, g: Floats, h: Floats, shape: Shape, row: Numbers) -> None:
    """D of one row's blocks, then m, each along the line on which it moves the block."""
    d, m, s, t, q = row
    block = shape.block
    line, moment = np.empty(block, np.float32), np.empty(x.size, np.float32)
    for a in range(x.size // block):
        first = a * block
        for is_minimum in range(2 if shape.has_minimum else 1):
            moment[:] = 0
            slope, curve = np.float32(0), np.float32(0)
            for i in range(block):
                b = (first + i) // shape.sub
                line[i] = -np.float32(t[b]) if is_minimum else np.float32(s[b]) * shape.levels[q[first + i]]
                slope += line[i] * g[first + i]
                for j in range(x.size):
                    moment[j] += line[i] * h[first + i, j]
            for i in range(block):
                curve += line[i] * moment[first + i]
            if curve <= 0:
                continue
            old = m[a] if is_minimum else d[a]
            new = f16_value(f16_bits(old + slope / curve))
            by = new - old
            if 2 * by * slope - by * by * curve <= 0 or (is_minimum and shape.ranges[2] >= 0 and new < 0):
                continue
            if is_minimum:
                m[a] = new
            else:
                d[a] = new
            for i in range(block):
                x[first + i] += by * line[i]
            for j in range(x.size):
                g[j] -= by * moment[j]


@compiled
def _descend_panel(
    x: Floats,
    g: Floats,
    h: Floats,
    inverses: Floats,
    triangles: Floats,
    shape: Shape,
    trials: Floats,
    numbers: Numbers,
) -> None:
    """One sweep over some columns of all rows."""
    d, m, s, t, q = numbers
    for r in range(x.shape[0]):
        row = Numbers(d[r], m[r], s[r], t[r], q[r])
        _move_codes(x[r], g[r], h, shape, row)
        _move_sub_blocks(x[r], g[r], h, inverses, triangles, shape, trials, row)
        _move_blocks(x[r], g[r], h, shape, row)

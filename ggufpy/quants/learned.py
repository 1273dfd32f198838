"""Learned rounding: which way each weight is rounded is found by descent on shifts before rounding.

A weight of step s becomes the level nearest to w / s + v; v, within half a level, moves against the cost's
gradient as if rounding had the slope 1, over the curvature of its column. Scales stay. The cost is
(w - w') H (w - w')^T, as in feedback.py. Source: SignRound (arXiv 2309.05516), which moves by signs alone; on
this cost that spares a fifth of what the gradient does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.columns import in_parts
from ggufpy.quants.grids import Grid, Parts
from ggufpy.quants.moment import Moment

Floats = NDArray[np.float32]

_STEPS = 200
_PACE = 0.003  # of the first step; it falls to nothing


def learn_rounding(goal: Floats, moment: Moment, grid: Grid, parts: Parts, threads: int) -> None:
    """Choose the levels of `parts` (rows, n), whose scales are kept, for `goal`."""
    in_parts(lambda rows: _learn(goal[rows], moment.h, grid, parts.of(rows)), len(goal), threads)


def _learn(goal: Floats, h: Floats, grid: Grid, parts: Parts) -> None:
    step, low = (np.repeat(each, grid.sub, 1) for each in grid.steps(parts))
    aim = np.divide(goal + low, step, out=np.zeros_like(goal), where=step != 0)
    curve = step * np.diagonal(h)
    moved, best = np.zeros_like(goal), np.full(len(goal), np.inf)
    middles = (grid.levels[1:] + grid.levels[:-1]) / np.float32(2)
    for number in range(_STEPS):
        codes = np.searchsorted(middles, aim + moved)
        error = goal - (step * grid.levels[codes] - low)
        slope: Floats = error @ h
        cost = np.einsum("ri,ri->r", slope, error)
        is_better = cost < best
        best[is_better], parts.q[is_better] = cost[is_better], codes[is_better]
        pace = np.float32(_PACE * (1 - number / _STEPS))
        moved += pace * np.divide(slope, curve, out=np.zeros_like(slope), where=curve != 0)
        np.clip(moved, -0.5, 0.5, out=moved)

"""Rounding that weighs rows by the outputs' gradients, as columns are weighed by the inputs.

With the moments H of the inputs and G of the loss's gradients at the outputs, rounding to W' costs
tr(G E H E^T), E = W - W'. So errors of a row can be made up for in others: rows are rounded as columns are in
feedback.py, block after block, with V upper triangular, V^T V = G^-1. Then each block descends once more
towards its best real values, given all others.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.moment import Moment, damped, upper
from ggufpy.quants.rounding import Kind, descend, round_with_feedback

Floats = NDArray[np.float32]

_ROWS = 32  # of a block, far from each other: what they share is left to the others
_DAMPING = 0.3  # gradients have heavy tails, and tokens are few


def round_two_sided(
    goal: Floats, moment: Moment, fisher: NDArray[np.floating[Any]], kind: Kind, parts: Any, threads: int
) -> None:
    """Round `goal` (rows, n) into `parts`, whose scales the search begins with. fisher: G, (rows, rows)."""
    step = max(1, len(goal) // _ROWS)
    blocks = [slice(first, None, step) for first in range(step)]
    order = np.concatenate([np.arange(len(goal))[block] for block in blocks])
    ends = np.cumsum([0, *(len(goal[block]) for block in blocks)])
    spans = [slice(begin, end) for begin, end in pairwise(ends)]
    solid = damped(fisher.astype(np.float64), _DAMPING)[np.ix_(order, order)]
    triangle = upper(solid).astype(np.float32)
    passed = np.zeros_like(goal)  # what each row hands on, in that order
    for block, span in zip(blocks, spans, strict=True):
        aim = goal[block] - triangle[: span.start, span].T @ passed[: span.start]
        own = parts.of(block)
        round_with_feedback(aim, moment, kind, own, threads)
        descend(aim, moment, kind, own, threads)
        passed[span] = np.linalg.solve(triangle[span, span].T, aim - kind.values(own))
    error = (goal - kind.values(parts))[order]
    for block, span in zip(blocks, spans, strict=True):
        own, rest = parts.of(block), error.copy()
        rest[span] = 0
        aim = goal[block] + np.linalg.solve(solid[span, span], solid[span] @ rest).astype(np.float32)
        descend(aim, moment, kind, own, threads)
        error[span] = goal[block] - kind.values(own)

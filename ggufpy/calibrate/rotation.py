"""A rotation of the residual stream that makes blocks of weights easier to round, learned from them alone.

What a block of 32 loses goes with its largest weight. So the sum of the blocks' squared L8 norms is made
small, over orthogonal matrices, by steps along them: Adam in the tangent space, each step a Cayley transform.
Random rotations do harm where channels differ much: the norms' weights keep these apart.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

_BLOCK = 32
_STEPS = 120
_RATE = 0.3
_DECAY = (0.9, 0.95)


def blocks_cost(x: Matrix) -> tuple[float, Matrix]:
    """The sum over blocks of 32 of a row of (sum of x^8)^(1/4), and its gradient."""
    blocks = x.reshape(len(x), -1, _BLOCK)
    square = blocks * blocks
    fourth = square * square
    sums = (fourth * fourth).sum(axis=-1, keepdims=True)
    roots = np.sqrt(np.sqrt(sums))
    factors = np.divide(2 * roots, sums, out=np.zeros_like(sums), where=sums > 0)
    gradient = (factors * fourth * square * blocks).reshape(x.shape)
    return float(roots.sum(dtype=np.float64)), gradient


def learned(readers: Matrix, writers: Matrix, on_step: Callable[[int, int], None] | None = None) -> Matrix:
    """An orthogonal R, (n, n), that makes blocks of readers @ R and of R^T @ writers easy to round.

    readers: (r, n); writers: (n, c), c in blocks. on_step is told how many steps are done, and of how many.
    """
    n = len(writers)
    rotation, one = _start(n), np.eye(n)
    mean, square = np.zeros((n, n)), np.zeros((n, n))
    for step in range(1, _STEPS + 1):
        now = rotation.astype(np.float32)
        slope = readers.T @ blocks_cost(readers @ now)[1] + writers @ blocks_cost(now.T @ writers)[1].T
        tangent = rotation.T @ slope
        tangent -= tangent.T.copy()
        mean = _DECAY[0] * mean + (1 - _DECAY[0]) * tangent
        square = _DECAY[1] * square + (1 - _DECAY[1]) * tangent**2
        scaled = mean / (1 - _DECAY[0] ** step) / (np.sqrt(square / (1 - _DECAY[1] ** step)) + 1e-30)
        rate = _RATE * (1 + np.cos(np.pi * step / _STEPS)) / 2
        half = rate / 2 / np.sqrt(n) * scaled
        rotation = rotation @ np.linalg.solve(one + half, one - half)
        if on_step is not None:
            on_step(step, _STEPS)
    return rotation.astype(np.float32)


def _start(n: int) -> NDArray[np.float64]:
    """Hadamard's matrix with random signs, or several side by side: (n, n)."""
    rotation = np.ones((1, 1))
    while n % (2 * len(rotation)) == 0:
        rotation = np.block([[rotation, rotation], [rotation, -rotation]])
    whole = np.kron(np.eye(n // len(rotation)), rotation / np.sqrt(len(rotation)))
    signs = np.random.default_rng(0).choice((-1.0, 1.0), n)
    return np.array(signs[:, None] * whole)

"""Sums over tokens of what matrices read: second moments, of one stream and between two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class Sums:
    """Means over tokens, weighted: h of y y^T, crossed of x y^T, lost of z y^T.

    x is what a matrix reads in the float model, y in the other, z what a value of the stream lacks there.
    """

    def __init__(self, columns: int, *, crossed: bool, lost: int | None) -> None:
        self._h = np.zeros((columns, columns))
        self._crossed = np.zeros((columns, columns)) if crossed else None
        self._lost = None if lost is None else np.zeros((lost, columns))
        self._total = self._squares = 0.0

    def add(self, y: Floats, x: Floats | None, z: Floats | None, weights: Floats | None) -> None:
        """Tokens of both streams: (tokens, columns); weights: (tokens,), none for 1."""
        if weights is not None:
            y = y * weights[:, None]
        root = y if weights is None else y / np.sqrt(np.maximum(weights, 1e-30))[:, None]
        self._h += root.T @ root
        if self._crossed is not None and x is not None:
            self._crossed += x.T @ y
        if self._lost is not None and z is not None:
            self._lost += z.T @ y
        if weights is None:
            weights = np.ones(len(y), np.float32)
        self._total += float(weights.sum(dtype=np.float64))
        self._squares += float(np.vdot(weights, weights))

    @property
    def is_nothing(self) -> bool:
        """Whether no token counted, or all are zeros."""
        return not self._h.any()

    @property
    def tokens(self) -> float:
        """As many tokens of equal weight would say as much."""
        return self._total * self._total / self._squares

    @property
    def h(self) -> Doubles:
        """The mean of y y^T; of those that are not nothing."""
        return self._h / self._total

    @property
    def crossed(self) -> Doubles | None:
        """The mean of x y^T."""
        return None if self._crossed is None else self._crossed / self._total

    @property
    def lost(self) -> Doubles | None:
        """The mean of z y^T."""
        return None if self._lost is None else self._lost / self._total

"""The second moment H of what a matrix reads: what rounding errors cost, and what rounding needs."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import GgufpyError
from ggufpy.quants.columns import panels

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class PanelMoments(NamedTuple):
    """H of some columns; of each sub-block H^-1, its U, and one over the diagonal of that; all flat."""

    h: Floats
    inverses: Floats
    triangles: Floats
    diagonals: Floats


class Moment:
    """H (n, n) of inputs, with a share of its mean diagonal added to the diagonal.

    Raises GgufpyError for NaN, infinities and zeros, and, when rounding begins, where it is not positive
    definite.
    """

    def __init__(self, moment: Doubles, share: float) -> None:
        self.solid = damped(moment, share)
        self._panels: dict[int, list[PanelMoments]] = {}

    @property
    def importance(self) -> Floats:
        """What each column counts for: (n,)."""
        return np.ascontiguousarray(np.diagonal(self.solid), np.float32)

    @cached_property
    def h(self) -> Floats:
        """In f32."""
        return self.solid.astype(np.float32)

    @cached_property
    def triangle(self) -> Floats:
        """U in f32."""
        return upper(self.solid).astype(np.float32)

    def panels(self, sub: int) -> list[PanelMoments]:
        """Of sub-blocks of so many columns."""
        if sub not in self._panels:
            ends = panels(len(self.solid))
            self._panels[sub] = [_panel(self.solid[begin:end, begin:end], sub) for begin, end in ends]
        return self._panels[sub]


def damped(moment: Doubles, share: float) -> Doubles:
    """The moment, with a share of its mean diagonal added to the diagonal.

    Raises GgufpyError for one with NaN or infinities, or of zeros.
    """
    mean = float(np.diagonal(moment).mean())
    if not np.isfinite(moment).all() or mean <= 0:
        raise GgufpyError("the inputs of a matrix are all zero, or no numbers; take another text")
    return moment + share * mean * np.eye(len(moment))


def upper(moment: Doubles) -> Doubles:
    """U, upper triangular, with U^T U = moment^-1; raises GgufpyError if it is not positive definite."""
    try:
        # From the last column back: moment = T T^T with T upper triangular, so U is the inverse of T.
        triangle = np.linalg.cholesky(moment[::-1, ::-1])[::-1, ::-1]
    except np.linalg.LinAlgError as exc:
        raise GgufpyError(
            "second moments are not positive definite; give more text, or more damping"
        ) from exc
    return np.linalg.inv(triangle)


def _panel(moment: Doubles, sub: int) -> PanelMoments:
    own = [moment[i : i + sub, i : i + sub] for i in range(0, len(moment), sub)]
    triangles = np.array([upper(each) for each in own], np.float32)
    diagonals: Floats = np.float32(1) / np.diagonal(triangles, axis1=1, axis2=2).astype(np.float32)
    return PanelMoments(
        np.ascontiguousarray(moment, np.float32).reshape(-1),
        np.array([np.linalg.inv(each) for each in own], np.float32).reshape(-1),
        triangles.reshape(-1),
        np.ascontiguousarray(diagonals).reshape(-1),
    )

"""Rounding with feedback, and descent, whatever kind of type it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ggufpy.gguf.types import GGMLType
from ggufpy.quants import codebook_descent, codebook_feedback, descent, feedback
from ggufpy.quants.codebooks import CODEBOOKS, Codebook
from ggufpy.quants.grids import GRIDS, Grid
from ggufpy.quants.moment import Moment

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


class Kind(Protocol):
    """A Grid or a Codebook: how a type's blocks are numbers, its own Parts or Points."""

    def parts(self, data: Bytes) -> Any:
        """Rows of blocks, (rows, row_bytes), as numbers."""

    def data(self, parts: Any) -> Bytes:
        """The inverse of `parts`."""

    def values(self, parts: Any) -> Floats:
        """The weights: (rows, n)."""


KINDS: Mapping[GGMLType, Kind] = {**GRIDS, **CODEBOOKS}


def round_with_feedback(goal: Floats, moment: Moment, kind: Kind, start: Any, threads: int) -> None:
    """Round `goal` (rows, n) column after column into `start`, whose scales the search begins with."""
    if isinstance(kind, Codebook):
        codebook_feedback.round_with_feedback(goal, moment, kind, start, threads)
    elif isinstance(kind, Grid):
        feedback.round_with_feedback(goal, moment, kind, start, threads)


def descend(goal: Floats, moment: Moment, kind: Kind, parts: Any, threads: int) -> None:
    """Move `parts` (rows, n) towards `goal`, where that lowers what it costs."""
    if isinstance(kind, Codebook):
        codebook_descent.descend(goal, moment, kind, parts, threads)
    elif isinstance(kind, Grid):
        descent.descend(goal, moment, kind, parts, threads)

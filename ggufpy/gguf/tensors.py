"""TensorSource: how a tensor travels between checkpoint, quantizer, file and runtime."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ggufpy.gguf.types import GGMLType


@dataclass(frozen=True, slots=True)
class TensorSource:
    """A named tensor whose rows are read on demand; a transformation of one is another one.

    shape is in NumPy order: the last axis is a row, all others together count the rows.
    read(start, stop) returns rows start..stop as (stop - start, row_bytes) bytes in `type`, little-endian.
    """

    name: str
    shape: tuple[int, ...]
    type: GGMLType
    read: Callable[[int, int], NDArray[np.uint8]]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return math.prod(self.shape[:-1])

    @property
    def columns(self) -> int:
        """Weights in a row."""
        return self.shape[-1]

    @property
    def row_bytes(self) -> int:
        """Bytes in a row; raises ShapeError if blocks do not divide it."""
        return self.type.row_bytes(self.columns)

    @property
    def n_bytes(self) -> int:
        """Bytes of the whole tensor."""
        return self.rows * self.row_bytes

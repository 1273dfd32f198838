"""Scales of a matrix: one for all, for each row, for each group of a row, or for each block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import FormatError
from ggufpy.gguf import sources
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.floats import decode
from ggufpy.gguf.tensors import TensorSource


@dataclass(frozen=True, slots=True)
class Scales:
    """One number for each block of a matrix, or of each of several.

    source: (matrices * grid rows, grid columns). matrix: (rows, columns). block: rows and columns of one.
    """

    source: TensorSource
    matrix: tuple[int, int]
    block: tuple[int, int]

    @classmethod
    def of(cls, source: TensorSource, shape: tuple[int, ...], block: Sequence[int] | None = None) -> Scales:
        """The scales of a weight of this shape, (..., rows, columns).

        block: rows and columns of one block; None if blocks divide the matrix. Raises FormatError for scales
        that do not fit.
        """
        around, (rows, columns) = shape[:-2], shape[-2:] if len(shape) > 1 else (1, *shape)
        count = math.prod(around)
        grid = _grid(source.shape, around, rows, columns, block)
        if grid is None:
            problem = f"has shape {source.shape}, its weight {shape}"
            blocks = f" in blocks of {tuple(block)}" if block else ""
            raise FormatError(f"tensor {quoted(source.name)} {problem}{blocks}; they do not belong together")
        sizes = (-(-rows // grid[0]), -(-columns // grid[1]))
        if block and grid == (-(-rows // block[0]), -(-columns // block[1])):
            sizes = (min(block[0], rows), min(block[1], columns))
        return cls(sources.reshaped(source, (count * grid[0], grid[1])), (rows, columns), sizes)

    @property
    def group_of(self) -> NDArray[np.int64]:
        """The group of each column: (columns,)."""
        return np.arange(self.matrix[1]) // self.block[1]

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Of rows start..stop of the weight: (rows, groups)."""
        return decode(self.stored(start, stop), self.source.type)

    def stored(self, start: int, stop: int) -> NDArray[np.uint8]:
        """The same as bytes."""
        rows = np.arange(start, stop)
        of_matrix = -(-self.matrix[0] // self.block[0])
        index = rows // self.matrix[0] * of_matrix + rows % self.matrix[0] // self.block[0]
        data: NDArray[np.uint8] = self.source.read(int(index[0]), int(index[-1]) + 1)[index - index[0]]
        return data


def _grid(
    found: tuple[int, ...], around: tuple[int, ...], rows: int, columns: int, block: Sequence[int] | None
) -> tuple[int, int] | None:
    """How many scales there are along rows and columns of a matrix, None if that cannot be."""
    rest = found[len(around) :] if found[: len(around)] == around else None
    if found == (1,):
        return (1, 1) if not around else None
    if rest is None:
        return None
    if len(rest) == 4 and rest[1] == rest[3] == 1:
        rest = (rest[0], rest[2])
    if rest in ((), (1,), (1, 1)):
        return 1, 1
    if rest in ((rows,), (rows, 1)):
        return rows, 1
    if len(rest) != 2:
        return None
    if block:
        return (rest[0], rest[1]) if rest == (-(-rows // block[0]), -(-columns // block[1])) else None
    return (rest[0], rest[1]) if rows % rest[0] == columns % rest[1] == 0 else None

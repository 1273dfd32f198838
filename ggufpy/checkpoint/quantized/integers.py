"""Weights that are integers in groups, each group with a scale: most methods differ in their packing only.

Which type of blocks has them, by the range of the integers once their zero-points are subtracted:

| range | type | where not exact |
|---|---|---|
| -2 to 1, or -1 to 2 | q2_0, for groups of a multiple of 64 | scales that f16 does not hold |
| -8 to 7 | q4_0 | the same |
| others of at most 4 bits, also with minimums | q4_1 | minimums that f16 does not hold, too |
| -16 to 15 | q5_0 | as q4_0 |
| others of 5 bits with minimums | q5_1 | as q4_1 |
| -128 to 127 | q8_0 | as q4_0 |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.checkpoint.quantized import blocks
from ggufpy.checkpoint.quantized.method import Error, How, Weight, as_floats, no_numbers
from ggufpy.errors import FormatError
from ggufpy.gguf.cursor import quoted
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_WITH_MINIMUMS = (GGMLType.Q4_1, GGMLType.Q5_1)


@dataclass(frozen=True, slots=True)
class Slab:
    """Some rows: weight = (code - zero) * scale, or code * scale + minimum.

    codes: (rows, columns), of integers, from 0 on. scales: (rows, groups), f32. zeros: an integer for all, or
    (rows, groups), int16 or f32. minimums: f32 (rows, groups), in place of zeros.
    """

    codes: NDArray[Any]
    scales: Floats
    zeros: NDArray[np.int16] | NDArray[np.float32] | int = 0
    minimums: Floats | None = None

    def floats(self, group_of: NDArray[np.int64]) -> Floats:
        """The weights themselves, (rows, columns)."""
        if self.minimums is not None:
            return self.codes * self.scales[:, group_of] + self.minimums[:, group_of]
        return self.integers(group_of) * self.scales[:, group_of]

    def integers(self, group_of: NDArray[np.int64]) -> NDArray[Any]:
        """Codes without their zero-points; these may have fractions."""
        zeros = self.zeros if isinstance(self.zeros, int) else self.zeros[:, group_of]
        return self.codes.astype(np.int16) - zeros


@dataclass(frozen=True, slots=True)
class Integers:
    """A weight of the checkpoint.

    parts: the names of the tensors that it is made of. group_of: (columns,), each column's group. bits: of a
    code. zeros: the least zero-point and the greatest, None where they have fractions. precision: of the
    scales in f16 (`precision_in_f16`). read: rows start..stop.
    """

    name: str
    shape: tuple[int, ...]
    parts: Sequence[str]
    group_of: NDArray[np.int64]
    bits: int
    zeros: tuple[int, int] | None
    precision: How
    read: Callable[[int, int], Slab]

    def weight(self) -> Weight:
        """In the type of blocks that has these numbers, exactly or nearly; else floats."""
        type, floats = self._type(), as_floats(self.name, self.shape, self.parts, self._floats)
        if type is None:
            return floats
        how = How.NEARLY if type in _WITH_MINIMUMS else self.precision
        error = Error() if how is How.NEARLY else None

        def read(start: int, stop: int) -> Bytes:
            with no_numbers():
                return self._blocks(self._slab(start, stop), type, error)

        source = TensorSource(self.name, self.shape, type, read)
        return Weight(source, self.parts, how, error, floats=floats.source if error else None)

    def _type(self) -> GGMLType | None:
        if self.precision is How.AS_FLOATS or not self._fits(32):
            return None
        if self._fits(64) and (self._within(-2, 1) or self._within(-1, 2)):
            return GGMLType.Q2_0
        if self._within(-8, 7):
            return GGMLType.Q4_0
        if self.bits <= 4:
            return GGMLType.Q4_1
        if self._within(-16, 15):
            return GGMLType.Q5_0
        if self.bits == 5 and self.zeros is None:
            return GGMLType.Q5_1
        return GGMLType.Q8_0 if self._within(-128, 127) else None

    def _within(self, lowest: int, highest: int) -> bool:
        """Whether integers without their zero-points, which are integers, are so."""
        if self.zeros is None:
            return False
        return lowest + self.zeros[1] <= 0 and (1 << self.bits) - 1 - self.zeros[0] <= highest

    def _fits(self, size: int) -> bool:
        """Whether all columns of each block of this size are of one group."""
        if len(self.group_of) % size:
            return False
        of_blocks = self.group_of.reshape(-1, size)
        return bool((of_blocks == of_blocks[:, :1]).all())

    def _floats(self, start: int, stop: int) -> Floats:
        return self._slab(start, stop).floats(self.group_of)

    def _slab(self, start: int, stop: int) -> Slab:
        slab = self.read(start, stop)
        if slab.codes.min() < 0 or slab.codes.max() >= 1 << self.bits:
            problem = f"has integers of more than {self.bits} bits"
            raise FormatError(f"tensor {quoted(self.name)} {problem}; download it again")
        return slab

    def _blocks(self, slab: Slab, type: GGMLType, error: Error | None) -> Bytes:
        group_of = self.group_of[:: type.block_size]
        scales = slab.scales[:, group_of]
        d = scales.astype(np.float16)
        if type not in _WITH_MINIMUMS:
            values = slab.integers(self.group_of)
            if error is not None:
                _measure(error, values, scales, d)
            return self._symmetric(values, d, type)
        minimums = (slab.minimums if slab.minimums is not None else -slab.zeros * slab.scales)[:, group_of]
        m = minimums.astype(np.float16)
        if error is not None:
            _measure(error, slab.codes, scales, d, minimums, m)
        put = blocks.q4_1 if type is GGMLType.Q4_1 else blocks.q5_1
        return put(slab.codes.astype(np.uint8), d, m)

    def _symmetric(self, values: NDArray[np.int16], d: NDArray[np.float16], type: GGMLType) -> Bytes:
        if type is GGMLType.Q8_0:
            return blocks.q8_0(values.astype(np.int8), d)
        if type is GGMLType.Q4_0:
            return blocks.q4_0((values + 8).astype(np.uint8), d)
        if type is GGMLType.Q5_0:
            return blocks.q5_0((values + 16).astype(np.uint8), d)
        is_turned = self._within(-2, 1)
        return blocks.q2_0((1 - values if is_turned else values + 1).astype(np.uint8), -d if is_turned else d)


def _measure(
    error: Error,
    values: NDArray[Any],
    scales: Floats,
    d: NDArray[np.float16],
    minimums: Floats | float = 0.0,
    m: NDArray[np.float16] | float = 0.0,
) -> None:
    """Add what rounding scales and minimums of blocks, (rows, blocks), does to values, (rows, columns).

    The sum of (v a + b)^2 over a block is a^2 sum(v^2) + 2 a b sum(v) + n b^2.
    """
    of_blocks = values.reshape(*scales.shape, -1).astype(np.float32)
    squares, sums = np.einsum("rbi,rbi->rb", of_blocks, of_blocks), of_blocks.sum(axis=-1)

    def total(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float((a * a * squares + 2 * a * b * sums + of_blocks.shape[-1] * b * b).sum())

    whole, least = scales.astype(np.float64), np.asarray(minimums, np.float64)
    error.squares += total(d - whole, m - least)
    error.total += total(whole, least)

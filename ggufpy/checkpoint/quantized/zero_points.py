"""Zero-points of compressed-tensors, one for each scale: signed integers, or packed along the outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ggufpy.checkpoint.quantized.scales import Scales
from ggufpy.checkpoint.quantized.words import Codes, Words, dense, words
from ggufpy.gguf import sources
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType

Integers = NDArray[np.int16]
Unpack = Callable[[Words, int], Codes]

DTYPES = {GGMLType.I8: "i1", GGMLType.I16: "<i2", GGMLType.I32: "<i4", GGMLType.I64: "<i8"}


@dataclass(frozen=True, slots=True)
class ZeroPoints:
    """Those of a weight of so many rows, as numbers from 0 on. read: of rows start..stop, (rows, groups)."""

    rows: int
    read: Callable[[int, int], Integers | int]

    def range(self) -> tuple[int, int]:
        """The least and the greatest; all are read."""
        every = np.asarray(self.read(0, self.rows))
        return int(every.min()), int(every.max())


def plain(zeros: TensorSource, scales: Scales, rows: int, bits: int) -> ZeroPoints:
    """As many as there are scales, in the same places."""
    like = replace(scales, source=sources.reshaped(zeros, scales.source.shape))

    def read(start: int, stop: int) -> Integers:
        return like.stored(start, stop).view(DTYPES[zeros.type]).astype(np.int16) + np.int16(1 << (bits - 1))

    return ZeroPoints(rows, read)


def packed(zeros: TensorSource, unpack: Unpack, rows: int, bits: int) -> ZeroPoints:
    """Words (words, groups), in each column of which all rows' are packed."""
    unit, n = (32, bits) if unpack is dense else (32 // bits, 1)  # so many rows in so many words

    def read(start: int, stop: int) -> Integers:
        first, last = start // unit, -(-stop // unit)
        taken = words(zeros, first * n, min(last * n, zeros.rows))
        codes = unpack(np.ascontiguousarray(taken.T), bits)
        return codes[:, start - first * unit : stop - first * unit].T.astype(np.int16)

    return ZeroPoints(rows, read)

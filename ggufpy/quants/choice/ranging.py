"""Tensors whose scales are chosen by a method of `ranges`, in place of the encoders' own search."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import FormatError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import check_range, decode
from ggufpy.quants.choice.planning import Planned, finite
from ggufpy.quants.grids import GRIDS
from ggufpy.quants.ranges import Range, encode_with

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_SLAB = 1 << 17  # weights that a thread takes at a time


def ranged(planned: Sequence[Planned], how: Range, threads: int) -> list[Planned]:
    """Those that become blocks are encoded by `how`. Raises FormatError for types that it is not for.

    When rows are read: FormatError for NaN, Inf and what is beyond f16.
    """
    return [_ranged(each, how, threads) for each in planned]


def _ranged(each: Planned, how: Range, threads: int) -> Planned:
    type = each.tensor.type
    if type is each.source.type or type.block_size == 1:
        return each
    how.check(each.tensor.name, type, each.tensor.columns)
    return replace(each, tensor=_encoded(each.source, type, how, threads))


def _encoded(source: TensorSource, type: GGMLType, how: Range, threads: int) -> TensorSource:
    grid, height, width = GRIDS[type], source.shape[-2], source.columns
    step = max(1, _SLAB // width)
    checked = finite(source)

    def floats(start: int, stop: int) -> Floats:
        x = decode(checked.read(start, stop), source.type).reshape(-1, width)
        try:
            check_range(x, type)
        except FormatError as error:
            raise FormatError(f"tensor '{source.name}': {error}") from error
        return x

    @cache
    def of_matrix(number: int) -> tuple[np.float32, np.float32]:
        scale, low = how.scales(floats(number * height, (number + 1) * height), grid)
        return scale[0, 0], low[0, 0]

    def encoded(start: int, stop: int) -> Bytes:
        x = floats(start, stop)
        if how.reach != "tensor":
            return encode_with(x, *how.scales(x, grid), grid)
        numbers = np.array([of_matrix(row // height) for row in range(start, stop)], np.float32)
        scale, low = (np.repeat(column[:, None], width // grid.sub, 1) for column in numbers.T)
        return encode_with(x, scale, low, grid)

    def read(start: int, stop: int) -> Bytes:
        if how.reach == "tensor":  # before threads would all do it
            for number in range(start // height, (stop - 1) // height + 1):
                of_matrix(number)
        with ThreadPoolExecutor(threads) as pool:
            firsts = range(start, stop, step)
            return np.concatenate(list(pool.map(lambda a: encoded(a, min(a + step, stop)), firsts)))

    return TensorSource(source.name, source.shape, type, read)

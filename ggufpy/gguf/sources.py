"""Tensors made of tensors: each is a source whose rows are made when they are read.

Rows start..stop are made of about as many rows, so that tensors of any size go through memory in slabs. A
tensor whose shape does not allow what is asked for stays as it is: whoever knows the right shape refuses it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.floats import DTYPES, decode
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Which = slice | NDArray[np.int64]

_SLAB_BYTES = 4 << 20


class OfBlocksError(UnsupportedModelError):
    """Numbers of a tensor cannot be changed or moved one by one: it is not of floats."""


def constant(name: str, values: Floats) -> TensorSource:
    """Values that are there already."""
    data = values.astype("<f4").view(np.uint8).reshape(-1, values.shape[-1] * 4)
    return TensorSource(name, values.shape, GGMLType.F32, lambda start, stop: data[start:stop])


def pairs(source: TensorSource, heads: int, turned: int | None = None) -> TensorSource:
    """Reorder each head from halves (x0 x1 ... y0 y1 ...) to pairs (x0 y0 x1 y1 ...).

    transformers rotates element i of a head with element i + size / 2; GGUF's Llama 2 i with 2 i + 1.
    source: (heads * size, columns), or a bias (heads * size,). turned: of each head only so many first
    elements are rotated, and reordered; None for all.
    """
    if not heads or source.shape[0] % (2 * heads):
        return source
    size = source.shape[0] // heads
    turned = size if turned is None else turned
    if turned % 2 or turned > size:
        return source
    order = np.arange(heads * size).reshape(heads, size)
    order[:, :turned] = order[:, :turned].reshape(heads, 2, -1).swapaxes(1, 2).reshape(heads, turned)
    return rows(source, order.ravel()) if len(source.shape) > 1 else columns(source, order.ravel())


def rows(source: TensorSource, which: Which) -> TensorSource:
    """Some rows of a matrix, or of each of several: (..., n, columns) -> (..., chosen, columns)."""
    if len(source.shape) < 2:
        return source
    n = source.shape[-2]
    order = np.arange(n)[which]

    def read(start: int, stop: int) -> Bytes:
        parts = []
        for matrix, first, last in _by_matrix(start, stop, len(order)):
            wanted = order[first:last]
            low, high = int(wanted.min()), int(wanted.max()) + 1
            parts.append(source.read(matrix * n + low, matrix * n + high)[wanted - low])
        return np.concatenate(parts)

    return replace(source, shape=(*source.shape[:-2], len(order), source.columns), read=read)


def columns(source: TensorSource, which: Which) -> TensorSource:
    """Some columns: (..., n) -> (..., chosen)."""
    item = _item_bytes(source)
    order = np.arange(source.columns)[which]

    def read(start: int, stop: int) -> Bytes:
        chosen = source.read(start, stop).reshape(stop - start, -1, item)[:, order]
        return chosen.reshape(stop - start, -1)

    return replace(source, shape=(*source.shape[:-1], len(order)), read=read)


def stack(sources: Sequence[TensorSource]) -> TensorSource:
    """Tensors of one shape, one behind the other along a new first axis; f32 if they are of several types.

    Raises FormatError for tensors of several shapes.
    """
    most, _ = Counter(source.shape for source in sources).most_common(1)[0]
    first = next(source for source in sources if source.shape == most)
    for other in sources:
        if other.shape != most:
            raise FormatError(
                f"tensor '{other.name}' has shape {other.shape}, '{first.name}' has {most}; "
                "they do not belong together"
            )
    if any(other.type is not first.type for other in sources):
        sources = [mapped(other, lambda x: x) for other in sources]

    def read(start: int, stop: int) -> Bytes:
        parts = _by_matrix(start, stop, first.rows)
        return np.concatenate([sources[index].read(begin, end) for index, begin, end in parts])

    return replace(sources[0], shape=(len(sources), *first.shape), read=read)


def matrix(source: TensorSource, index: int) -> TensorSource:
    """One of several matrices: (count, n, columns) -> (n, columns)."""
    n = source.shape[1]
    first = index * n

    def read(start: int, stop: int) -> Bytes:
        return source.read(first + start, first + stop)

    return replace(source, shape=source.shape[1:], read=read)


def padded(source: TensorSource, n: int) -> TensorSource:
    """A matrix of at least n rows: those that it does not have are as its first."""
    if len(source.shape) != 2 or source.rows >= n:
        return source

    def read(start: int, stop: int) -> Bytes:
        own = source.read(min(start, source.rows), min(stop, source.rows))
        return np.concatenate([own, source.read(0, 1).repeat(stop - start - len(own), axis=0)])

    return replace(source, shape=(n, source.columns), read=read)


def transposed(source: TensorSource) -> TensorSource:
    """Each matrix with its axes exchanged: (..., n, m) -> (..., m, n)."""
    if len(source.shape) < 2:
        return source
    item = _item_bytes(source)
    n, m = source.shape[-2:]
    step = max(1, _SLAB_BYTES // source.row_bytes)

    def read(start: int, stop: int) -> Bytes:
        out = np.empty((stop - start, n), f"u{item}")
        place = 0
        for matrix, first, last in _by_matrix(start, stop, m):
            for begin in range(0, n, step):
                end = min(begin + step, n)
                slab = source.read(matrix * n + begin, matrix * n + end).view(out.dtype)
                out[place : place + last - first, begin:end] = slab[:, first:last].T
            place += last - first
        return out.view(np.uint8)

    return replace(source, shape=(*source.shape[:-2], m, n), read=read)


def reshaped(source: TensorSource, shape: tuple[int, ...]) -> TensorSource:
    """The same numbers in the same order."""
    if math.prod(shape) != math.prod(source.shape):
        return source
    if shape[-1] == source.columns:
        return replace(source, shape=shape)
    width, row_bytes = shape[-1] * _item_bytes(source), source.row_bytes

    def read(start: int, stop: int) -> Bytes:
        begin, end = start * width, stop * width
        first = begin // row_bytes
        data = source.read(first, -(-end // row_bytes)).reshape(-1)
        return data[begin - first * row_bytes : end - first * row_bytes].reshape(-1, width)

    return replace(source, shape=shape, read=read)


def mapped(source: TensorSource, function: Callable[[Floats], Floats]) -> TensorSource:
    """function(values), as f32; raises OfBlocksError for a tensor that is not of floats."""
    if source.type not in DTYPES:
        raise OfBlocksError(f"tensor '{source.name}' is {source.type.label}, it must be of floats")

    def read(start: int, stop: int) -> Bytes:
        values = function(decode(source.read(start, stop), source.type))
        return np.ascontiguousarray(values, "<f4").view(np.uint8)

    return replace(source, type=GGMLType.F32, read=read)


def plus_one(source: TensorSource) -> TensorSource:
    """X + 1: a norm that keeps what it adds to one."""
    return mapped(source, lambda x: x + np.float32(1))


def scaled(source: TensorSource, factors: Floats) -> TensorSource:
    """X * factors: one of them, or one for each row of a matrix, for each number of a vector."""
    if len(factors) not in (1, source.shape[0]):
        return source
    of_rows = len(source.shape) > 1 and len(factors) > 1
    floats = mapped(source, lambda x: x)

    def read(start: int, stop: int) -> Bytes:
        values = floats.read(start, stop).view("<f4")
        return (values * (factors[start:stop, None] if of_rows else factors)).view(np.uint8)

    return replace(floats, read=read)


def negative_exp(source: TensorSource) -> TensorSource:
    """-exp(x): a decay that is kept as its logarithm."""

    def function(x: Floats) -> Floats:
        with np.errstate(over="ignore"):  # what becomes infinite is refused when it is written
            return (-np.exp(x.astype(np.float64))).astype(np.float32)

    return mapped(source, function)


def unit_rows(source: TensorSource) -> TensorSource:
    """Each row divided by its length."""
    return mapped(source, lambda x: x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12))


def ternary(source: TensorSource) -> TensorSource:
    """Each number as -1, 0 or 1 times the mean magnitude of all, whichever is nearest.

    Source: transformers integrations/bitnet.py, WeightQuant.
    """
    floats = mapped(source, lambda x: x)
    step = max(1, _SLAB_BYTES // floats.row_bytes)

    @cache
    def magnitude() -> np.float32:
        slabs = (floats.read(start, min(start + step, floats.rows)) for start in range(0, floats.rows, step))
        total = sum(float(np.abs(slab.view("<f4"), dtype=np.float64).sum()) for slab in slabs)
        return np.float32(max(total / math.prod(source.shape), 1e-5))

    def read(start: int, stop: int) -> Bytes:
        values = np.rint(floats.read(start, stop).view("<f4") / magnitude()).clip(-1, 1) * magnitude()
        return values.view(np.uint8)

    return replace(floats, read=read)


def packed_ternary(packed: TensorSource, scale: TensorSource, *, divides: bool) -> TensorSource:
    """A matrix of -1, 0 and 1, of which a row holds four, times `scale`, or divided by it.

    packed: bytes (n, m); row k n + i is in bits 2 k, 2 k + 1 of row i. scale: (1,). Source: transformers
    integrations/bitnet.py, unpack_weights. Raises FormatError for tensors of other shapes.
    """
    if packed.type.block_bytes != 1 or len(packed.shape) != 2 or scale.shape != (1,):
        shapes = f"has shape {packed.shape}, '{scale.name}' has {scale.shape}"
        raise FormatError(f"tensor '{packed.name}' {shapes}; they are no packed matrix and its scale")
    n, m = packed.shape
    factor = mapped(scale, np.reciprocal if divides else lambda x: x)

    def read(start: int, stop: int) -> Bytes:
        parts = [packed.read(first, last) >> 2 * bit & 3 for bit, first, last in _by_matrix(start, stop, n)]
        values: Floats = np.concatenate(parts).astype(np.float32) - np.float32(1)
        values *= factor.read(0, 1).view("<f4")
        return values.view(np.uint8)

    return TensorSource(packed.name, (4 * n, m), GGMLType.F32, read)


def are_equal(source: TensorSource, other: TensorSource) -> bool:
    """Whether two tensors hold the same bytes; both are read up to where they differ."""
    if source.shape != other.shape or source.type is not other.type:
        return False
    step = max(1, _SLAB_BYTES // max(source.row_bytes, 1))
    slabs = ((start, min(start + step, source.rows)) for start in range(0, source.rows, step))
    return all(np.array_equal(source.read(*slab), other.read(*slab)) for slab in slabs)


def _by_matrix(start: int, stop: int, n: int) -> Iterator[tuple[int, int, int]]:
    """Rows start..stop of matrices of n rows each, as (matrix, first row in it, the one after the last)."""
    while start < stop:
        matrix, first = divmod(start, n)
        last = min(n, first + stop - start)
        yield matrix, first, last
        start += last - first


def _item_bytes(source: TensorSource) -> int:
    """Bytes of a number; raises OfBlocksError for blocks, whose numbers do not stand alone."""
    if source.type.block_size > 1:
        problem = f"is {source.type.label}, whose numbers cannot be put in another order"
        raise OfBlocksError(f"tensor '{source.name}' {problem}")
    return source.type.block_bytes

"""What the encoders of all K types share. The blocks of all rows are one sequence, taken in batches of 16."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.formats.compiled import compiled
from ggufpy.quants.formats.k_search import ONE, ZERO, clamp, nearest
from ggufpy.quants.formats.lanes import (
    LANES,
    F32x16,
    load,
    load_strided,
    splat,
    square_root,
    store,
    store_bytes,
)

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


BLOCK = 256
BATCH = LANES * BLOCK


@compiled
def read_batch(
    flat: Floats, weights: Floats, first: int, count: int, values: Floats, importance: Floats
) -> None:
    """Copy `count` blocks from block `first` on, and the weights of their columns; the rest are zeros."""
    for i in range(0, BLOCK * count, LANES):
        store(values, i, load(flat, BLOCK * first + i))
    for i in range(BLOCK * count, BATCH, LANES):
        store(values, i, splat(ZERO))
    read_weights(weights, first, importance)


@compiled
def read_weights(weights: Floats, first: int, importance: Floats) -> None:
    """Copy the weights of the columns of 16 blocks; without weights all count alike."""
    for b in range(LANES):
        column = BLOCK * (first + b) % max(weights.size, 1)
        for i in range(0, BLOCK, LANES):
            own = load(weights, column + i) if weights.size > 0 else splat(ONE)
            store(importance, BLOCK * b + i, own)


@compiled
def weigh(values: Floats, share: np.float32, importance: Floats) -> None:
    """Multiply importance by sqrt(share * the mean square of the block + x^2)."""
    total = splat(ZERO)
    for i in range(BLOCK):
        value = load_strided(values, i, BLOCK)
        total += value * value
    means = np.empty(LANES, np.float32)
    store(means, 0, share * total / np.float32(BLOCK))
    for b in range(LANES):
        for i in range(BLOCK * b, BLOCK * (b + 1), LANES):
            value = load(values, i)
            store(importance, i, load(importance, i) * square_root(means[b] + value * value))


@compiled
def column_sums(w: Floats, n: int) -> F32x16:
    """The sum of each column."""
    total = splat(ZERO)
    for i in range(n):
        total += load(w, LANES * i)
    return total


@compiled
def round_sub_block(
    values: Floats,
    start: int,
    n: int,
    step: np.float32,
    low: np.float32,
    least: np.float32,
    most: np.float32,
    levels: Floats,
    q: Bytes,
) -> None:
    """Round (values + low) / step into least..most and store it, counted from `least`, in q.

    A step of 0 makes any level as good as another: then those of the search stand, as in llama.cpp.
    """
    at = start % BLOCK
    if step == ZERO:
        lane, column = start // n % LANES, start // (LANES * n) * LANES * n
        for i in range(n):
            q[at + i] = np.uint8(levels[column + LANES * i + lane])
        return
    for i in range(0, n, LANES):
        level = clamp(nearest((load(values, start + i) + low) / step), least, most)
        store_bytes(q, at + i, level - least)

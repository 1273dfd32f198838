"""Types of blocks as integers and scales: what they stand for, and the way back to the same bytes."""

from __future__ import annotations

import numpy as np
import pytest

from ggufpy.gguf.types import GGMLType
from ggufpy.quants import decode, encode
from ggufpy.quants.grids import GRIDS


@pytest.mark.parametrize("type", GRIDS, ids=lambda type: type.label)
@pytest.mark.parametrize("weighted", [False, True])
def test_parts_are_the_blocks_numbers(type: GGMLType, weighted: bool) -> None:
    rng, grid = np.random.default_rng(1), GRIDS[type]
    x = rng.standard_normal((5, 512)).astype(np.float32) * np.exp(rng.standard_normal((5, 512))).astype(
        np.float32
    )
    data = encode(x, type, np.ones(512, np.float32) if weighted else None)
    parts = grid.parts(data)
    np.testing.assert_array_equal(grid.data(parts), data)
    np.testing.assert_array_equal(grid.values(parts), decode(data, type).reshape(x.shape))
    assert (parts.s >= grid.s_range[0]).all() and (parts.s <= grid.s_range[1]).all()
    assert (parts.t >= grid.t_range[0]).all() and (parts.t <= grid.t_range[1]).all()
    assert parts.q.min() >= 0 and parts.q.max() < len(grid.levels)


@pytest.mark.parametrize("type", GRIDS, ids=lambda type: type.label)
def test_any_bytes_have_parts(type: GGMLType) -> None:
    """But for levels that a type has no number for: of two bits there are three."""
    grid = GRIDS[type]
    data = np.random.default_rng(2).integers(
        0, 256, (4, 2 * type.block_bytes * (512 // type.block_size) // 2), np.uint8
    )
    if type in (GGMLType.TQ1_0, GGMLType.TQ2_0):
        data[:, :] = encode(np.random.default_rng(3).standard_normal((4, 512)).astype(np.float32), type)
    if type is GGMLType.MXFP4:
        data[:, :: type.block_bytes] //= 2  # within f32
    parts = grid.parts(data)
    parts.d, parts.m = (np.nan_to_num(each, posinf=1, neginf=1) for each in (parts.d, parts.m))
    data = grid.data(parts)
    again = grid.parts(data)
    np.testing.assert_array_equal(grid.data(again), data)
    for name in ("d", "m", "s", "t", "q"):
        np.testing.assert_array_equal(getattr(again, name), getattr(parts, name))
    np.testing.assert_array_equal(grid.values(again), decode(data, type).reshape(4, 512))

"""Types of grids as numbers and scales: what they stand for, and the way back to the same bytes."""

from __future__ import annotations

import numpy as np
import pytest

from ggufpy.gguf.types import GGMLType
from ggufpy.quants import decode, encode
from ggufpy.quants.codebooks import CODEBOOKS


@pytest.mark.parametrize("type", CODEBOOKS, ids=lambda type: type.label)
def test_parts_are_the_blocks_numbers(type: GGMLType) -> None:
    rng, book = np.random.default_rng(1), CODEBOOKS[type]
    x = (rng.standard_normal((5, 512)) * np.exp(rng.standard_normal((5, 512)))).astype(np.float32)
    data = encode(x, type, np.ones(512, np.float32))
    parts = book.parts(data)
    np.testing.assert_array_equal(book.data(parts), data)
    np.testing.assert_array_equal(book.values(parts), decode(data, type).reshape(x.shape))


@pytest.mark.parametrize("type", CODEBOOKS, ids=lambda type: type.label)
def test_any_bytes_have_parts(type: GGMLType) -> None:
    book = CODEBOOKS[type]
    data = np.random.default_rng(2).integers(0, 256, (4, 2 * type.block_bytes), np.uint8)
    parts = book.parts(data)
    parts.d = np.nan_to_num(parts.d, posinf=1, neginf=1)
    data = book.data(parts)
    again = book.parts(data)
    for name in ("d", "s", "p", "signs"):
        np.testing.assert_array_equal(getattr(again, name), getattr(parts, name))
    np.testing.assert_array_equal(book.values(again), decode(data, type).reshape(4, 512))

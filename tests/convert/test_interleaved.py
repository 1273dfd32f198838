"""Heads that are reordered for RoPE are read in any steps, also such that begin inside a head."""

import numpy as np
import pytest

from ggufpy.architectures._conversion import interleaved
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType

HEADS, SIZE, COLUMNS = 5, 12, 7


def source(shape: tuple[int, ...]) -> TensorSource:
    rows = np.random.default_rng(0).standard_normal(shape).astype(np.float32).reshape(-1, shape[-1])
    return TensorSource("x", shape, GGMLType.F32, lambda start, stop: rows[start:stop].view(np.uint8))


@pytest.mark.parametrize("step", [1, 5, 7, 11, 12, 13, 60])
def test_rows_are_the_same_in_any_steps(step: int) -> None:
    plain = source((HEADS * SIZE, COLUMNS))
    n = plain.rows
    got = [interleaved(plain, HEADS).read(start, min(start + step, n)) for start in range(0, n, step)]
    rows = plain.read(0, n).view(np.float32).reshape(HEADS, 2, SIZE // 2, COLUMNS)
    want = rows.swapaxes(1, 2).reshape(n, COLUMNS)
    np.testing.assert_array_equal(np.concatenate(got).view(np.float32), want)


def test_biases_are_reordered_like_rows() -> None:
    plain = source((HEADS * SIZE,))
    got = interleaved(plain, HEADS).read(0, 1).view(np.float32)
    want = plain.read(0, 1).view(np.float32).reshape(HEADS, 2, SIZE // 2).swapaxes(1, 2)
    np.testing.assert_array_equal(got.ravel(), want.ravel())

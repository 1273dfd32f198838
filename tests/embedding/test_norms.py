"""Lengths and angles of vectors, as llama.cpp computes them."""

import numpy as np
import pytest

from ggufpy.embedding.norms import normalized, similarities

ROWS = np.array([[3.0, -4.0], [0.0, 0.0], [1e-30, 0.0], [1e20, 1e20]], np.float32)


@pytest.mark.parametrize(
    ("norm", "first"),
    [
        (-1, [3, -4]),
        (0, [24570, -32760]),
        (1, [3 / 7, -4 / 7]),
        (2, [0.6, -0.8]),
        (3, [3 / 91 ** (1 / 3)] * 1),
    ],
)
def test_norms(norm: int, first: list[float]) -> None:
    rows = normalized(ROWS, norm)
    assert rows.dtype == np.float32 and np.isfinite(rows).all()
    np.testing.assert_allclose(rows[0, : len(first)], first, rtol=1e-6)
    np.testing.assert_array_equal(rows[1], 0)
    if norm > 0:
        np.testing.assert_allclose((np.abs(rows[[0, 2, 3]]) ** norm).sum(axis=1), 1, rtol=1e-5)


def test_similarities() -> None:
    rows = np.array([[3, 4], [-3, -4], [4, -3], [0, 0]], np.float32)
    want = [[1, -1, 0, 0], [-1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(similarities(rows), want, atol=1e-6)

"""The divergence of two models' probabilities."""

import math

import numpy as np
import pytest

from ggufpy.errors import ShapeError
from ggufpy.evaluate.divergence import divergence


def test_divergence_is_the_sum_of_its_definition() -> None:
    random = np.random.default_rng(0)
    p, q = (random.normal(scale=4, size=(70, 300)).astype(np.float32) for _ in range(2))
    found = divergence(p, q)
    assert found.shape == (70,)
    for row in (0, 31, 32, 69):
        a, b = (np.exp(each[row].astype(float)) / np.exp(each[row].astype(float)).sum() for each in (p, q))
        expected = sum(x * math.log(x / y) for x, y in zip(a, b, strict=True))
        assert found[row] == pytest.approx(expected, rel=1e-12)


def test_logits_that_differ_by_a_constant_are_the_same_probabilities() -> None:
    logits = np.linspace(-900, 900, 600, dtype=np.float32).reshape(2, 300)
    np.testing.assert_allclose(divergence(logits, logits + np.float32(512)), 0, atol=1e-10)
    assert (divergence(logits, logits) == 0).all()


def test_logits_of_other_shapes_are_refused() -> None:
    two, three = np.zeros((2, 5), np.float32), np.zeros((3, 5), np.float32)
    with pytest.raises(ShapeError, match=r"logits are \(2, 5\) and \(3, 5\)"):
        divergence(two, three)
    with pytest.raises(ShapeError):
        divergence(two[0], two[0])

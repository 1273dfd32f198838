"""Rounding with feedback, against a plain account of it, and against rounding without."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ggufpy.errors import GgufpyError
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import decode, encode
from ggufpy.quants.columns import trials_of
from ggufpy.quants.descent import descend
from ggufpy.quants.feedback import round_with_feedback
from ggufpy.quants.grids import GRIDS, Grid, Parts
from ggufpy.quants.learned import learn_rounding
from ggufpy.quants.moment import Moment, damped, upper
from ggufpy.quants.two_sided import round_two_sided

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
N = 512


def inputs(n: int = N) -> Doubles:
    """A second moment of inputs that depend on each other, of very different sizes."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4 * n, n)) @ (rng.standard_normal((n, n)) / 20 + np.eye(n))
    x *= np.exp(rng.standard_normal(n) / 2)
    moment: Doubles = x.T @ x / len(x)
    return moment


def weights(rows: int, n: int = N) -> Floats:
    x: Floats = np.random.default_rng(1).standard_normal((rows, n), np.float32) / np.float32(20)
    return x


def encoded(goal: Floats, moment: Moment, grid: Grid) -> Parts:
    return grid.parts(encode(goal, grid.type, moment.importance))


def rounded(goal: Floats, moment: Moment, grid: Grid, threads: int = 1) -> Parts:
    parts = encoded(goal, moment, grid)
    round_with_feedback(goal, moment, grid, parts, threads)
    return parts


def cost(goal: Floats, parts: Parts, grid: Grid, moment: Moment, fisher: Doubles | None = None) -> float:
    error = goal - grid.values(parts).astype(np.float64)
    other = error if fisher is None else fisher @ error
    return float(np.einsum("ri,ij,rj->", other, moment.solid, error))


@pytest.mark.parametrize("type", GRIDS, ids=lambda type: type.label)
def test_outputs_change_less(type: GGMLType) -> None:
    moment, goal, grid = Moment(inputs(), 0.01), weights(70), GRIDS[type]
    plain = encoded(goal, moment, grid)
    parts = rounded(goal, moment, grid)
    most = 0.85 if type is GGMLType.Q1_0 else 0.75
    assert cost(goal, parts, grid, moment) < most * cost(goal, plain, grid, moment)
    before = cost(goal, parts, grid, moment)
    descend(goal, moment, grid, parts, threads=2)
    assert cost(goal, parts, grid, moment) < 0.95 * before
    data = grid.data(parts)
    np.testing.assert_array_equal(decode(data, type).reshape(goal.shape), grid.values(parts))
    again = rounded(goal, moment, grid, threads=3)
    descend(goal, moment, grid, again, threads=1)
    np.testing.assert_array_equal(grid.data(again), data)


@pytest.mark.parametrize("type", [GGMLType.Q4_0, GGMLType.Q4_1, GGMLType.Q3_K, GGMLType.Q4_K])
def test_it_is_what_the_formula_says(type: GGMLType) -> None:
    """Column after column, in f64: each sub-block by the trial that costs least."""
    moment, goal, grid = Moment(inputs(), 0.01), weights(3), GRIDS[type]
    triangle = upper(moment.solid)
    want = encoded(goal, moment, grid)
    for row in range(len(goal)):
        _one_row(goal[row].astype(np.float64), triangle, grid, want, row)
    got = rounded(goal, moment, grid)
    same = np.mean(got.q == want.q)
    assert same > 0.99, same  # f32 turns a choice of scales now and then, and all that comes behind it
    assert cost(goal, got, grid, moment) == pytest.approx(cost(goal, want, grid, moment), rel=0.02)


def _one_row(
    v: NDArray[np.float64], triangle: NDArray[np.float64], grid: Grid, parts: Parts, row: int
) -> None:
    for b in range(len(v) // grid.sub):
        first, end, a = b * grid.sub, (b + 1) * grid.sub, b * grid.sub // grid.block
        best: tuple[float, tuple[float, float, int, int], list[int], list[float]] | None = None
        for x, y, mirrored in trials_of(grid):
            d, m, s, t = parts.d[row, a], parts.m[row, a], int(parts.s[row, b]), int(parts.t[row, b])
            if grid.is_flat:
                d, m = np.float16(d * (1 + x)), np.float16(m + y * d) if grid.has_minimum else m
            else:
                s, t = int(x - s if mirrored else s + x), int(t + y)
                if not (grid.s_range[0] <= s <= grid.s_range[1] and grid.t_range[0] <= t <= grid.t_range[1]):
                    continue
            values = float(d) * s * grid.levels.astype(np.float64) - float(m) * t
            left, codes, errors = v[first:end].copy(), [], []
            for i in range(grid.sub):
                codes.append(int(np.abs(values - left[i]).argmin()))
                errors.append((left[i] - values[codes[-1]]) / triangle[first + i, first + i])
                left[i:] -= errors[-1] * triangle[first + i, first + i : end]
            found = (float(np.square(errors).sum()), (float(d), float(m), s, t), codes, errors)
            best = found if best is None or found[0] < best[0] else best
        assert best
        (
            _,
            (parts.d[row, a], parts.m[row, a], parts.s[row, b], parts.t[row, b]),
            parts.q[row, first:end],
            errors,
        ) = best
        v[end:] -= np.array(errors) @ triangle[first:end, end:]


@pytest.mark.parametrize("type", [GGMLType.Q4_0, GGMLType.Q4_K, GGMLType.IQ4_NL])
def test_rounding_is_learned(type: GGMLType) -> None:
    moment, goal, grid = Moment(inputs(), 0.01), weights(40), GRIDS[type]
    plain, parts = encoded(goal, moment, grid), encoded(goal, moment, grid)
    learn_rounding(goal, moment, grid, parts, threads=2)
    np.testing.assert_array_equal(parts.d, plain.d)
    assert cost(goal, parts, grid, moment) < 0.95 * cost(goal, plain, grid, moment)


@pytest.mark.parametrize("type", [GGMLType.Q4_0, GGMLType.Q3_K])
def test_rows_make_up_for_others(type: GGMLType) -> None:
    moment, goal, grid, fisher = Moment(inputs(), 0.01), weights(96), GRIDS[type], inputs(96)
    one, two = rounded(goal, moment, grid), encoded(goal, moment, grid)
    descend(goal, moment, grid, one, threads=2)
    round_two_sided(goal, moment, fisher, grid, two, threads=2)
    assert cost(goal, two, grid, moment, fisher) < 0.9 * cost(goal, one, grid, moment, fisher)
    assert cost(goal, two, grid, moment) > cost(goal, one, grid, moment)


def test_the_triangle_is_of_the_inverse() -> None:
    moment = damped(inputs(64), 0.01)
    triangle = upper(moment)
    np.testing.assert_allclose(triangle.T @ triangle @ moment, np.eye(64), atol=1e-9)
    assert not np.tril(triangle, -1).any()


def test_moments_that_say_nothing() -> None:
    for moment in (np.zeros((4, 4)), np.full((4, 4), np.nan), np.full((4, 4), np.inf)):
        with pytest.raises(GgufpyError, match="all zero, or no numbers"):
            damped(moment, 0.01)
    with pytest.raises(GgufpyError, match="not positive definite"):
        upper(-np.eye(4))

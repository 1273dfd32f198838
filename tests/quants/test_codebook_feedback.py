"""Points of grids under feedback: against all points one by one, and against rounding without."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from test_feedback import inputs, weights

from ggufpy.gguf.types import GGMLType
from ggufpy.quants import decode, encode
from ggufpy.quants.codebook_points import book_of, metric_of, room_for
from ggufpy.quants.codebook_search import search_points
from ggufpy.quants.codebooks import CODEBOOKS, Codebook, Points
from ggufpy.quants.moment import Moment, upper
from ggufpy.quants.rounding import descend, round_with_feedback
from ggufpy.quants.two_sided import round_two_sided

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
EIGHT = Moment(inputs(8) + 0.2 * np.ones((8, 8)), 0.01)


def encoded(goal: Floats, moment: Moment, book: Codebook) -> Points:
    return book.parts(encode(goal, book.type, moment.importance))


def cost(goal: Floats, parts: Points, book: Codebook, moment: Moment, fisher: Doubles | None = None) -> float:
    error = goal - book.values(parts).astype(np.float64)
    other = error if fisher is None else fisher @ error
    return float(np.einsum("ri,ij,rj->", other, moment.solid, error))


# Points of 8 with signs and without, and of 4: what others do, these do.
DIFFERENT = (GGMLType.IQ2_XS, GGMLType.IQ1_M, GGMLType.IQ3_S)


@pytest.mark.parametrize("type", DIFFERENT, ids=lambda type: type.label)
def test_outputs_change_less(type: GGMLType) -> None:
    moment, goal, book = Moment(inputs(), 0.01), weights(20), CODEBOOKS[type]
    parts = encoded(goal, moment, book)
    again, plain = book.parts(book.data(parts)), cost(goal, parts, book, moment)
    round_with_feedback(goal, moment, book, parts, threads=1)
    before = cost(goal, parts, book, moment)
    assert before < 0.7 * plain
    descend(goal, moment, book, parts, threads=2)
    assert cost(goal, parts, book, moment) < 0.9 * before
    data = book.data(parts)
    np.testing.assert_array_equal(decode(data, type).reshape(goal.shape), book.values(parts))
    round_with_feedback(goal, moment, book, again, threads=3)
    descend(goal, moment, book, again, threads=1)
    np.testing.assert_array_equal(book.data(again), data)


@pytest.mark.parametrize("type", [type for type in CODEBOOKS if CODEBOOKS[type].dims == 8])
def test_points_are_the_nearest(type: GGMLType) -> None:
    """Of all that there are; with signs, which are chosen on the way, nearly always."""
    codebook, triangle = CODEBOOKS[type], upper(EIGHT.solid)
    book, step, shift = book_of(codebook), np.float32(0.3), codebook.shifts[0]
    metric = metric_of(triangle.astype(np.float32).reshape(-1), 8, book.dims)
    room, found, least = room_for(book), 0.0, 0.0
    every = all_of(codebook)
    for values in np.random.default_rng(3).standard_normal((12, 8)).astype(np.float32):
        values *= step * np.abs(codebook.points).mean() * np.float32(1.4)
        limit = np.float32(np.inf)
        got = search_points(values, metric, step, shift, limit, book, room)
        want = np.square((values - step * (every + shift)) @ np.linalg.inv(triangle)).sum(axis=1).min()
        levels = np.square((values - step * room.levels[:8]) @ np.linalg.inv(triangle)).sum()
        assert got == pytest.approx(levels, rel=1e-4) and got >= want * 0.9999
        assert search_points(values, metric, step, shift, got * np.float32(0.999), book, room) == np.inf
        found, least = found + float(got), least + float(want)
    assert found <= least * (1.05 if codebook.has_signs else 1.0001)


def all_of(codebook: Codebook) -> Floats:
    """Every legal row of levels."""
    if not codebook.has_signs:
        return codebook.points
    signs = np.array(list(product((1, -1), repeat=8)), np.float32)
    if codebook.is_even:
        signs = signs[signs.prod(axis=1) > 0]
    return (codebook.points[:, None] * signs).reshape(-1, 8)


def test_rows_make_up_for_others() -> None:
    moment, goal, fisher, book = (
        Moment(inputs(256), 0.01),
        weights(96, 256),
        inputs(96),
        CODEBOOKS[GGMLType.IQ3_S],
    )
    one, two = encoded(goal, moment, book), encoded(goal, moment, book)
    round_with_feedback(goal, moment, book, one, threads=2)
    descend(goal, moment, book, one, threads=2)
    round_two_sided(goal, moment, fisher, book, two, threads=2)
    assert cost(goal, two, book, moment, fisher) < 0.9 * cost(goal, one, book, moment, fisher)


def test_nothing_but_zeros() -> None:
    moment, goal = Moment(inputs(256), 0.01), np.zeros((3, 256), np.float32)
    for type, book in CODEBOOKS.items():
        parts = encoded(goal, moment, book)
        round_with_feedback(goal, moment, book, parts, threads=1)
        descend(goal, moment, book, parts, threads=1)
        assert not book.values(parts).any(), type

"""What a step gives: rows by span, whatever batches they were computed in, for as long as they are wanted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from random_llama import TOKENS
from steps import step
from test_engine import load, model

from ggufpy.errors import GgufpyError
from ggufpy.runtime.engine import Span, Wanted
from ggufpy.runtime.result import Result

__all__ = ["model"]

TEXTS: list[tuple[list[int], bool, Wanted]] = [
    (TOKENS[:9], False, "last"),
    ([5], True, "last"),
    (TOKENS[9:15], False, "all"),
    (TOKENS[20:33], False, "none"),
    ([6, 7, 8], True, "all"),
    (TOKENS[33:40], False, "last"),
]


@pytest.mark.parametrize("n_batch", [1, 4, 5, 64])
@pytest.mark.parametrize("order", [range(6), range(5, -1, -1), (3, 1, 4, 0, 5, 2)])
def test_rows_are_in_the_order_of_the_spans(model: Path, n_batch: int, order: list[int]) -> None:
    engine = load(model, "int8", n_batch=n_batch, n_seq=7)
    alone: dict[int, NDArray[np.float32]] = {}
    for i, (tokens, generating, wanted) in enumerate(TEXTS):
        sequence = engine.new_sequence()
        alone[i] = step(engine, sequence, tokens, generating=generating, logits=wanted)
        sequence.close()
    assert [len(rows) for rows in alone.values()] == [1, 1, 6, 0, 3, 1]
    result = engine.step([Span(engine.new_sequence(), *TEXTS[i]) for i in order])
    for place, i in enumerate(order):
        assert result.rows(place).shape == (len(alone[i]), engine.n_vocab)
        np.testing.assert_array_equal(result.rows(place), alone[i])


def test_rows_stay_when_another_step_is_made(model: Path) -> None:
    engine = load(model, n_seq=2)
    first = engine.step([Span(engine.new_sequence(), TOKENS[:5], logits="all")])
    before = first.rows(0).copy()
    engine.step([Span(engine.new_sequence(), TOKENS[5:20], logits="all")])
    np.testing.assert_array_equal(first.rows(0), before)


def test_a_step_of_nothing(model: Path) -> None:
    engine = load(model)
    with pytest.raises(IndexError):
        engine.step([]).rows(0)
    assert step(engine, engine.new_sequence(), []).shape == (0, engine.n_vocab)


class Collector:
    """Draws token 7, and keeps what it was to draw from."""

    def draw(self, logits: NDArray[np.float32]) -> int:
        self.row = logits
        return 7


def test_tokens_are_drawn_from_the_last_row(model: Path) -> None:
    engine, sampler = load(model, n_batch=4, n_seq=2), Collector()
    spans = [Span(engine.new_sequence(), TOKENS[:6], logits="all"), Span(engine.new_sequence(), [5], True)]
    result = engine.step(spans)
    for i in (0, 1):
        assert result.draw(i, sampler) == 7
        np.testing.assert_array_equal(sampler.row, result.rows(i)[-1])
    with pytest.raises(GgufpyError, match='no logits were wanted of span 1; ask for its "last" ones'):
        Result(2, {"logits": 3}).draw(1, sampler)

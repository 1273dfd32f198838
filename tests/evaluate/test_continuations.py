"""How likely texts are after others, against the table's own rows."""

from typing import cast

import numpy as np
import pytest
from known_engine import Table

from ggufpy.evaluate.continuations import continuations, text_loss
from ggufpy.runtime.engine import Engine


def losses(engine: Table, tokens: list[int], first: int, position: int = 0) -> list[float]:
    """Of tokens[first:]; the first of `tokens` is at `position` of the context."""
    found = []
    for i in range(first, len(tokens)):
        row = engine.row(position + i - 1, tokens[i - 1]).astype(float)
        found.append(np.log(np.exp(row).sum()) - row[tokens[i]])
    return found


@pytest.mark.parametrize("at_once", [None, 1, 2])
def test_each_continuation_follows_what_is_shared(at_once: int | None) -> None:
    engine = Table(16)
    best = int(engine.row(4, ord("d")).argmax())  # what the table finds likeliest after "a b d"
    rests = [[best], list(b"xyz"), [best, 7], list(b"q")]
    found = continuations(cast(Engine, engine), list(b"a b d"), rests, at_once)
    for rest, each in zip(rests, found, strict=True):
        assert each.losses == pytest.approx(losses(engine, [*b"a b d", *rest], 5))
    assert [each.likeliest[0] for each in found] == [True, False, True, False]
    assert found[2].likeliest[1] == (int(engine.row(5, best).argmax()) == 7)


def test_nothing_predicts_a_first_token() -> None:
    engine = Table(16)
    [found] = continuations(cast(Engine, engine), [], [list(b"abc")])
    assert np.isnan(found.losses[0])
    assert found.losses[1:] == pytest.approx(losses(engine, list(b"abc"), 1))


@pytest.mark.parametrize("n", [1, 7, 8, 9, 16, 21])
def test_a_long_text_is_read_in_contexts(n: int) -> None:
    engine = Table(8)
    tokens = [(11 * i) % 250 for i in range(n)]
    whole = [99, *tokens]
    expected = 0.0
    for start in range(0, n, 8):
        stop = min(start + 8, n)
        first = max(0, stop - 8)  # what the last token of the window is predicted from
        expected += sum(losses(engine, whole[first : stop + 1], start + 1 - first))
    assert text_loss(cast(Engine, engine), tokens, 99) == pytest.approx(expected)

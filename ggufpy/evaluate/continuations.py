"""How likely texts are after others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ggufpy.evaluate.perplexity import scored, token_losses
from ggufpy.runtime.engine import Engine, Span
from ggufpy.runtime.state import Sequence as Tokens


@dataclass(frozen=True, slots=True)
class Continuation:
    """Of each token: -ln of its probability, and whether it was the likeliest one; arrays (n_tokens,).

    A first token that nothing comes before has nan.
    """

    losses: NDArray[np.float64]
    likeliest: NDArray[np.bool_]


def continuations(
    engine: Engine, shared: list[int], rests: Sequence[list[int]], at_once: int | None = None
) -> list[Continuation]:
    """What may follow the same tokens; no rest is empty.

    at_once: how many of them; the engine has room for a sequence more. Raises ContextError.
    """
    stem = engine.new_sequence()
    try:
        row = engine.step([Span(stem, shared)]).rows(0) if shared else None
        size = at_once or len(rests)
        groups = (rests[start : start + size] for start in range(0, len(rests), size))
        return [each for group in groups for each in _group(engine, stem, row, group)]
    finally:
        stem.close()


def _group(
    engine: Engine, stem: Tokens, row: NDArray[np.float32] | None, rests: Sequence[list[int]]
) -> Iterator[Continuation]:
    """row: what the stem predicts, (1, n_vocab)."""
    sequences = [stem.fork() for rest in rests if len(rest) > 1]
    try:
        longer = (rest for rest in rests if len(rest) > 1)
        spans = [
            Span(sequence, rest[:-1], logits="all") for sequence, rest in zip(sequences, longer, strict=True)
        ]
        result = engine.step(spans) if spans else None
        numbers = iter(range(len(spans)))
        for rest in rests:
            found = Continuation(np.full(len(rest), np.nan), np.zeros(len(rest), np.bool_))
            if row is not None:
                _fill(found, slice(0, 1), row, rest)
            if len(rest) > 1 and result is not None:
                _fill(found, slice(1, None), result.rows(next(numbers)), rest)
            yield found
    finally:
        for sequence in sequences:
            sequence.close()


def _fill(found: Continuation, part: slice, logits: NDArray[np.float32], tokens: list[int]) -> None:
    targets = np.array(tokens[part])
    found.losses[part] = token_losses(logits, targets)
    found.likeliest[part] = logits.argmax(axis=1) == targets


def text_loss(engine: Engine, tokens: Sequence[int], prefix: int) -> float:
    """The sum of -ln of the probabilities of all tokens of a text, however long it is.

    prefix: what predicts the first. A token is predicted from the last n_ctx at most: contexts follow each
    other, and the last is as long as the others. Source: lm-evaluation-harness, get_rolling_token_windows().
    """
    total = 0.0
    for start in range(0, len(tokens), engine.n_ctx):
        stop = min(start + engine.n_ctx, len(tokens))
        window = [prefix, *tokens][max(0, stop - engine.n_ctx) : stop + 1]
        for logits, targets in scored(engine, window, len(window) - 1 - (stop - start)):
            total += float(token_losses(logits, targets).sum())
    return total

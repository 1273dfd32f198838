"""Perplexity of a text, counted as llama-perplexity counts it.

The tokens of the text are cut into chunks of one context each; what is left over is dropped. Each chunk
starts from an empty context, and only its second half is counted, so that every token is predicted from at
least half a context. Source: llama.cpp tools/perplexity/perplexity.cpp, perplexity().
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import GgufpyError
from ggufpy.evaluate.divergence import BLOCK_ROWS
from ggufpy.runtime.engine import Engine, Span
from ggufpy.tokenizers import Tokenizer
from ggufpy.tokenizers.chunks import chunks_of

SMALLEST_CONTEXT = 4

# Rows of logits held at once: with 128k tokens 262 MB.
_SLAB_ROWS = 512


@dataclass(frozen=True, slots=True)
class Perplexity:
    """exp of the mean negative log-likelihood of `n_tokens` tokens, and the standard error of that.

    What is too large for a float is inf; logits that are no numbers give nan.
    """

    value: float
    error: float
    n_tokens: int
    n_chunks: int
    seconds: float


def read_text(path: Path) -> str:
    """The text of a file without a newline at its end; what is not UTF-8 becomes U+FFFD. Raises OSError."""
    return path.read_bytes().decode("utf-8", errors="replace").removesuffix("\n")


def text_chunks(tokenizer: Tokenizer, text: str, n_ctx: int) -> list[list[int]]:
    """Whole contexts of tokens, each led by BOS in place of its first token where the model wants one.

    Raises GgufpyError if the context has fewer than 4 tokens, or the text fewer than two contexts.
    """
    if n_ctx < SMALLEST_CONTEXT:
        raise GgufpyError(f"a context of {n_ctx} has nothing to count; give at least {SMALLEST_CONTEXT}")
    tokens = tokenizer.encode(text)
    if len(tokens) < 2 * n_ctx:
        needed = f"a context of {n_ctx} needs at least {2 * n_ctx}"
        raise GgufpyError(
            f"the text has {len(tokens)} tokens, {needed}; take a longer text or a smaller context"
        )
    return chunks_of(tokenizer, tokens, n_ctx)


def perplexity(
    engine: Engine,
    chunks: Sequence[list[int]],
    *,
    on_chunk: Callable[[int, float], None] | None = None,
    on_logits: Callable[[NDArray[np.float32]], None] | None = None,
) -> Perplexity:
    """Measure the perplexity of a text in the chunks that `text_chunks` makes of it.

    on_chunk is told after each chunk: how many are done, and the perplexity so far. on_logits is given the
    rows that count, (rows, n_vocab), in their order.
    """
    start = perf_counter()
    n_tokens, total, squares = 0, 0.0, 0.0
    for done, chunk in enumerate(chunks, 1):
        losses = _losses(engine, chunk, on_logits)
        n_tokens += len(losses)
        total += float(losses.sum())
        squares += float(np.square(losses).sum())
        if on_chunk is not None:
            on_chunk(done, _exp(total / n_tokens))
    mean = total / n_tokens
    value, variance = _exp(mean), max(0.0, squares / n_tokens - mean * mean)
    error = value * math.sqrt(variance / max(1, n_tokens - 1))
    return Perplexity(value, error, n_tokens, len(chunks), perf_counter() - start)


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def scored(
    engine: Engine, tokens: Sequence[int], first: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """What is predicted from position `first` on, in slabs: logits, (rows, n_vocab), what follows, (rows,).

    tokens: of one text, which fit into the context.
    """
    sequence = engine.new_sequence()
    try:
        if first:
            engine.step([Span(sequence, tokens[:first], logits="none")])
        for start in range(first, len(tokens) - 1, _SLAB_ROWS):
            stop = min(start + _SLAB_ROWS, len(tokens) - 1)
            result = engine.step([Span(sequence, tokens[start:stop], logits="all")])
            yield result.rows(0), np.array(tokens[start + 1 : stop + 1])
    finally:
        sequence.close()


def scored_from(n_ctx: int) -> int:
    """The first position of a chunk whose logits count; that of the last token does not, as none follows."""
    return n_ctx // 2


def _losses(
    engine: Engine, chunk: list[int], on_logits: Callable[[NDArray[np.float32]], None] | None
) -> NDArray[np.float64]:
    """Negative log-likelihoods of the tokens in the second half of a chunk, but for its first: (n,)."""
    parts: list[NDArray[np.float64]] = []
    for logits, targets in scored(engine, chunk, scored_from(len(chunk))):
        parts.append(token_losses(logits, targets))
        if on_logits is not None:
            on_logits(logits)
    return np.concatenate(parts)


def token_losses(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """-ln softmax(logits)[row, targets[row]]. logits: (rows, n_vocab), targets and returned: (rows,)."""
    losses = np.empty(len(targets))
    for start in range(0, len(targets), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        rows, wanted = logits[block].astype(np.float64), targets[block]
        rows -= rows.max(axis=1, keepdims=True)
        chosen = rows[np.arange(len(rows)), wanted]
        losses[block] = np.log(np.exp(rows, out=rows).sum(axis=1)) - chosen
    return losses

"""A model held against what another predicted of the same text, token by token.

Source: llama.cpp tools/perplexity/perplexity.cpp, log_softmax() and kl_divergence().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import GgufpyError
from ggufpy.evaluate.base_logits import BaseLogits
from ggufpy.evaluate.divergence import BLOCK_ROWS, log_softmax
from ggufpy.evaluate.perplexity import scored, scored_from
from ggufpy.runtime.engine import Engine

# Less likely tokens do not count: the file does not tell how much less likely they were.
_LEAST = np.float32(-16)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AgainstBase:
    """What each predicted token of a text came to, in the order of the text: arrays (n_tokens,).

    losses, base_losses: -ln of its probability; kl: KL(base || model) of the prediction, in nats; delta_p:
    its probability less the base's; same_top: whether the likeliest token was the same, as 0 and 1.
    """

    losses: Floats
    base_losses: Floats
    kl: Floats
    delta_p: Floats
    same_top: Floats


def against_base(
    engine: Engine,
    base: BaseLogits,
    chunks: list[list[int]],
    *,
    on_chunk: Callable[[int, AgainstBase], None] | None = None,
) -> AgainstBase:
    """Compare a model's predictions with those in a file, of the first chunks of the file.

    chunks: `base.tokens` as the model wants them, led by its BOS. on_chunk is told after each: how many are
    done, and what that one came to. Raises GgufpyError if the vocabularies differ in size.
    """
    if engine.n_vocab != base.n_vocab:
        raise GgufpyError(
            f"{base.path} is about {base.n_vocab} tokens, the model predicts {engine.n_vocab}; "
            "write it anew with a model of the same vocabulary"
        )
    found: list[AgainstBase] = []
    for number, chunk in enumerate(chunks):
        found.append(_joined(list(_blocks(engine, base, number, chunk))))
        if on_chunk is not None:
            on_chunk(number + 1, found[-1])
    return _joined(found)


def _blocks(engine: Engine, base: BaseLogits, number: int, chunk: list[int]) -> Iterator[AgainstBase]:
    row = 0
    for logits, targets in scored(engine, chunk, scored_from(base.n_ctx)):
        for start in range(0, len(targets), BLOCK_ROWS):
            block, wanted = logits[start : start + BLOCK_ROWS], targets[start : start + BLOCK_ROWS]
            yield _block(block, base.log_probabilities(number, row, row + len(wanted)), wanted)
            row += len(wanted)


def _block(
    logits: NDArray[np.float32], ln_base: NDArray[np.float32], targets: NDArray[np.int64]
) -> AgainstBase:
    """logits, ln_base: (rows, n_vocab); targets: (rows,)."""
    rows = np.arange(len(targets))
    ln_model = log_softmax(logits)
    p_base = np.exp(ln_base, dtype=np.float64)
    p_base[ln_base <= _LEAST] = 0
    losses, base_losses = -ln_model[rows, targets], -ln_base[rows, targets].astype(np.float64)
    return AgainstBase(
        losses=losses,
        base_losses=base_losses,
        kl=np.einsum("ij,ij->i", p_base, ln_base - ln_model),
        delta_p=np.exp(-losses) - np.exp(-base_losses),
        same_top=(logits.argmax(axis=1) == ln_base.argmax(axis=1)).astype(np.float64),
    )


def _joined(parts: list[AgainstBase]) -> AgainstBase:
    names = [field.name for field in fields(AgainstBase)]
    return AgainstBase(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

"""What tests want of an engine, in few words."""

from __future__ import annotations

from collections.abc import Sequence as Items
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.gguf.reader import GGUFFile
from ggufpy.runtime.engine import Engine, Span, Wanted
from ggufpy.runtime.state import Sequence

Logits = NDArray[np.float32]

N_THREADS = 2


def load(path: Path, precision: str = "exact", **options: Any) -> Engine:
    """An engine with N_THREADS threads, unless `options` say otherwise."""
    return Engine.load(GGUFFile.open(path), **{"precision": precision, "n_threads": N_THREADS, **options})


def step(engine: Engine, spans: Items[Span]) -> list[Logits]:
    """Append tokens; the rows of logits that were wanted of each span."""
    result = engine.step(spans)
    return [result.rows(i) for i in range(len(spans))]


def append(
    engine: Engine,
    sequence: Sequence,
    tokens: Items[int],
    *,
    generating: bool = False,
    logits: Wanted = "all",
) -> Logits:
    """Append tokens to one sequence."""
    return step(engine, [Span(sequence, tokens, generating, logits)])[0]


def prompt_logits(engine: Engine, tokens: Items[int]) -> Logits:
    """Of all tokens, as a prompt."""
    sequence = engine.new_sequence()
    rows = append(engine, sequence, tokens)
    sequence.close()
    return rows


def generated_logits(engine: Engine, tokens: Items[int], prompt: int = 0) -> Logits:
    """Of the tokens after the first `prompt`, one by one."""
    sequence = engine.new_sequence()
    if prompt:
        append(engine, sequence, tokens[:prompt], logits="none")
    rows = [append(engine, sequence, [token], generating=True) for token in tokens[prompt:]]
    sequence.close()
    return np.concatenate(rows)


def nmse(got: NDArray[Any], want: NDArray[Any]) -> float:
    """Squared error in units of the squared signal."""
    got, want = got.astype(np.float64), want.astype(np.float64)
    return float(((got - want) ** 2).sum() / (want**2).sum())

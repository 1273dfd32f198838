"""One span at a time, for tests that want no more."""

from __future__ import annotations

from collections.abc import Sequence as Items

import numpy as np
from numpy.typing import NDArray

from ggufpy.runtime.engine import Engine, Span, Wanted
from ggufpy.runtime.state import Sequence


def step(
    engine: Engine,
    sequence: Sequence,
    tokens: Items[int],
    *,
    generating: bool = False,
    logits: Wanted = "last",
) -> NDArray[np.float32]:
    """Append tokens; returns the logits wanted: (rows, n_vocab)."""
    return engine.step([Span(sequence, tokens, generating, logits)]).rows(0)

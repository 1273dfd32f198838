"""What a step gave: rows of logits, by span."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import GgufpyError


class Sampler(Protocol):
    """Whatever chooses a token by a row of logits."""

    def draw(self, logits: NDArray[np.float32]) -> int:
        """Choose by `logits`, (n_vocab,)."""


class Result:
    """The logits that a step was asked for, by the number of the span; no later step writes to them."""

    def __init__(self, n_spans: int, n_vocab: int) -> None:
        self._n_vocab = n_vocab
        self._parts: list[list[NDArray[np.float32]]] = [[] for _ in range(n_spans)]

    def add(self, spans: Sequence[int], rows: NDArray[np.float32]) -> None:
        """Copy what a batch left: the first of `rows` are of these spans; each span's are in their order."""
        rows = rows[: len(spans)].copy()  # one block, used again once it is free; many would be new pages
        start = 0
        for span, group in groupby(spans):
            stop = start + len(list(group))
            self._parts[span].append(rows[start:stop])
            start = stop

    def rows(self, i: int) -> NDArray[np.float32]:
        """Of span i: (rows, n_vocab), as many as were wanted."""
        parts = self._parts[i]
        if len(parts) != 1:
            parts[:] = [np.concatenate([np.empty((0, self._n_vocab), np.float32), *parts])]
        return parts[0]

    def draw(self, i: int, sampler: Sampler) -> int:
        """A token that follows span i, by its last row. Raises GgufpyError if none was wanted of it."""
        rows = self.rows(i)
        if not len(rows):
            raise GgufpyError(f'no logits were wanted of span {i}; ask for its "last" ones to draw from them')
        return sampler.draw(rows[-1])

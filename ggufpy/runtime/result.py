"""What a step gave: rows of each output, by span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """The rows that a step was asked for, by the number of the span; no later step writes to them.

    widths: values per row of each output, by name; the first is what `rows` and `draw` mean by default.
    """

    def __init__(self, n_spans: int, widths: Mapping[str, int]) -> None:
        self._widths = widths
        self._main = next(iter(widths), "")
        self._parts: dict[str, list[list[NDArray[np.float32]]]] = {
            name: [[] for _ in range(n_spans)] for name in widths
        }

    def add(self, name: str, spans: Sequence[int], rows: NDArray[np.float32]) -> None:
        """Copy what a batch left: the first of `rows` are of these spans; each span's are in their order."""
        rows = rows[: len(spans)].copy()  # one block, used again once it is free; many would be new pages
        start = 0
        for span, group in groupby(spans):
            stop = start + len(list(group))
            self._parts[name][span].append(rows[start:stop])
            start = stop

    def rows(self, i: int, name: str | None = None) -> NDArray[np.float32]:
        """Of span i: (rows, width), as many as were wanted, or one for the text where rows are pooled."""
        name = name or self._main
        parts = self._parts[name][i]
        if len(parts) != 1:
            parts[:] = [np.concatenate([np.empty((0, self._widths[name]), np.float32), *parts])]
        return parts[0]

    def draw(self, i: int, sampler: Sampler) -> int:
        """A token that follows span i, by its last row. Raises GgufpyError if none was wanted of it."""
        rows = self.rows(i)
        if not len(rows):
            raise GgufpyError(f'no logits were wanted of span {i}; ask for its "last" ones to draw from them')
        return sampler.draw(rows[-1])

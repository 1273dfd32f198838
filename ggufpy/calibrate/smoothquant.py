"""Scales that move outliers of activations into the weights, for runtimes with activations of 8 bits.

Source: SmoothQuant (arXiv 2211.10438).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ggufpy.calibrate.fold_inputs import Moments, Part, cheapest, measured_layers, normalized, parts_of
from ggufpy.calibrate.folding import Fold, Scales
from ggufpy.calibrate.streams import Floats
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.graph import Value
from ggufpy.quants.choice.imatrix_file import Squares

_ALPHAS = tuple(i / 10 for i in range(3, 9))
_TOKENS = 256  # of all, to compare alphas by
_BLOCK = 32  # activations that share a scale, in llama.cpp and here
_LEAST = 1e-5  # of the largest: channels that are hardly used


class Extremes(Moments):
    """Also the largest magnitude of each value, and some rows."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self._every = max(1, tokens // _TOKENS)
        self._seen = 0
        self.largest: Floats = np.zeros(1, np.float32)
        self._rows: list[Floats] = []

    def add(self, rows: Floats) -> None:
        """Chunk by chunk."""
        super().add(rows)
        self.largest = np.maximum(self.largest, np.abs(rows).max(axis=0))
        self._rows.append(rows[-self._seen % self._every :: self._every].copy())
        self._seen += len(rows)

    def rows(self) -> Floats:
        """Every so manieth: (tokens, *the value's shape)."""
        return np.concatenate(self._rows)


def smoothquant(
    file: GGUFFile,
    types: Mapping[str, GGMLType],
    chunks: Sequence[list[int]],
    squares: Mapping[str, Squares],
    *,
    alpha: float | None,
    n_threads: int,
    on_layer: Callable[[int, int], None] | None = None,
) -> dict[Fold, Scales]:
    """Scales max|x|^alpha / max|w|^(1 - alpha) of the folds whose linears are rounded to `types`.

    alpha: None for the one of 0.3 .. 0.8 that is best for each fold, with weights of the type and activations
    of 8 bits, if it is better than none. Folds within experts have none. Other arguments and errors are
    those of `awq`.
    """
    found: dict[Fold, Scales] = {}
    tokens = sum(map(len, chunks))
    with ThreadPoolExecutor(n_threads) as pool:
        layers = measured_layers(file, chunks, n_threads, lambda: Extremes(tokens))
        for done, (folds, inputs, count) in enumerate(layers, 1):
            for fold in folds:
                parts = [p for p in parts_of(fold, file, types, inputs, squares) if p.value in inputs]
                scales = _scales(fold, parts, inputs, alpha, pool) if parts else None
                if scales is not None:
                    found[fold] = scales
            if on_layer is not None:
                on_layer(done, count)
    return found


def _scales(
    fold: Fold,
    parts: Sequence[Part],
    inputs: Mapping[Value, Extremes],
    alpha: float | None,
    pool: ThreadPoolExecutor,
) -> Scales | None:
    x, w = np.zeros(fold.size), np.zeros(fold.size)
    for part in parts:
        own = part.ids >= 0
        np.maximum.at(x, part.ids[own], _read(inputs[part.value].largest, part)[own])
        np.maximum.at(w, part.ids[own], np.abs(part.weights).max(axis=0)[own])
    x, w = (np.maximum(each, _LEAST * each.max()) for each in (x, w))
    if alpha is not None:
        return normalized(x**alpha / w ** (1 - alpha))
    trials = [np.ones(fold.size, np.float32), *(normalized(x**a / w ** (1 - a)) for a in _ALPHAS)]
    best = cheapest(trials, parts, lambda part, s: _cost(part, s, inputs[part.value].rows()), pool)
    return trials[best] if best else None


def _read(values: Floats, part: Part) -> Floats:
    """What a matrix reads of a value, (..., *its shape): (..., n)."""
    return values if part.head is None else values[..., part.head, :]


def _cost(part: Part, scales: Scales, rows: Floats) -> float:
    """The squared error of outputs of some tokens, by rounded weights and activations."""
    x = _read(rows, part)
    error = int8(x / part.factors(scales)) @ part.rounded(scales).T - x @ part.weights.T
    return part.count * float((error.astype(np.float64) ** 2).sum())


def int8(x: Floats) -> Floats:
    """As integers -127 .. 127 with a scale for each block of 32; the last axis is whole blocks."""
    blocks = x.reshape(*x.shape[:-1], -1, _BLOCK)
    steps = np.abs(blocks).max(axis=-1, keepdims=True) / np.float32(127)
    rounded: Floats = np.rint(blocks / np.where(steps == 0, np.float32(1), steps)) * steps
    return rounded.reshape(x.shape)

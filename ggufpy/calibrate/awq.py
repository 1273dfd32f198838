"""Scales by what activations are: channels that carry much are rounded more finely.

Source: AWQ (arXiv 2306.00978), with the encoder of the type that the weights will have in place of its own
grid, and with all products of the inputs in the error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ggufpy.calibrate.fold_inputs import Moments, Part, cheapest, measured_layers, normalized, parts_of
from ggufpy.calibrate.folding import Fold, Scales
from ggufpy.gguf.reader import GGUFFile
from ggufpy.gguf.types import GGMLType
from ggufpy.quants.choice.imatrix_file import Squares

_STEPS = 6
_MOST = 0.5
# Behind a linear outliers move from token to token: scales that even out their mean square spread them.
_MOST_BEHIND_LINEARS = 0.25
_LEAST = 1e-6  # of the mean square of all channels; a channel that is never used has no scale of its own


def awq(
    file: GGUFFile,
    types: Mapping[str, GGMLType],
    chunks: Sequence[list[int]],
    squares: Mapping[str, Squares],
    *,
    n_threads: int,
    on_layer: Callable[[int, int], None] | None = None,
) -> dict[Fold, Scales]:
    """Scales of the folds that lower the error of what is rounded to `types`: (mean square)^(alpha / 2).

    alpha: for each fold the one of six, from 0 on, with the least tr(E H E^T) over its linears, H the
    products of what they read. chunks: contexts of tokens, all of one length; squares: of the same.
    on_layer is told how many layers are done, and of how many. Raises as `measured_layers`.
    """
    found: dict[Fold, Scales] = {}
    with ThreadPoolExecutor(n_threads) as pool:
        layers = measured_layers(file, chunks, n_threads, Moments)
        for done, (folds, moments, count) in enumerate(layers, 1):
            for fold in folds:
                parts = list(parts_of(fold, file, types, moments, squares))
                scales = _best(fold, parts, pool) if parts else None
                if scales is not None:
                    found[fold] = scales
            if on_layer is not None:
                on_layer(done, count)
    return found


def _best(fold: Fold, parts: Sequence[Part], pool: ThreadPoolExecutor) -> Scales | None:
    """None where no scale is better than 1."""
    carried = mean_squares(fold, parts)
    alphas = np.linspace(0, _MOST if fold.after_norm else _MOST_BEHIND_LINEARS, _STEPS)
    trials = [normalized(carried ** (alpha / 2)) for alpha in alphas]
    best = cheapest(trials, parts, Part.cost, pool)
    return trials[best] if best else None


def mean_squares(fold: Fold, parts: Sequence[Part]) -> NDArray[np.float64]:
    """Of the channels that each scale is for, up to a factor, none of them 0: (size,)."""
    sums, counts = np.zeros(fold.size), np.zeros(fold.size)
    for part in parts:
        own = part.ids >= 0
        np.add.at(sums, part.ids[own], part.squares()[own])
        np.add.at(counts, part.ids[own], 1)
    means = sums / np.maximum(counts, 1)
    return np.array(np.maximum(means, _LEAST * means.mean()))

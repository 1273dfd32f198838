"""What an importance matrix says of its tensors, in llama-imatrix's terms.

Source: llama.cpp tools/imatrix/imatrix.cpp, compute_statistics().
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ggufpy.quants.choice.imatrix_file import Squares

_LAYER = re.compile(r"blk\.(\d+)\.")
_ACTIVE = 1e-5


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the mean squares of a tensor's columns.

    active: the share of those above 1e-5. entropy: in bits, of their shares of the sum; evenness: that over
    the most it can be. outliers: the share of those more than a deviation above the mean. likeness: the
    cosine to the same tensor of the layer before; None for the first.
    """

    name: str
    total: float
    least: float
    most: float
    mean: float
    deviation: float
    active: float
    columns: int
    entropy: float
    evenness: float
    outliers: float
    likeness: float | None


def statistics(entries: Mapping[str, Squares]) -> list[Statistics]:
    """Of each tensor, those with the largest sums first."""
    means = {name: each.means().reshape(-1).astype(np.float64) for name, each in entries.items()}
    found = [_of(name, values, means.get(_before(name))) for name, values in means.items()]
    return sorted(found, key=lambda each: -each.total)


def _before(name: str) -> str:
    """The same tensor of the layer before, or nothing."""
    layer = _LAYER.match(name)
    return _LAYER.sub(f"blk.{int(layer[1]) - 1}.", name) if layer else ""


def _of(name: str, values: NDArray[np.float64], before: NDArray[np.float64] | None) -> Statistics:
    total, mean, deviation = float(values.sum()), float(values.mean()), float(values.std())
    shares = values[values > 0] / total if total else values[:0]
    entropy = float((shares * -np.log2(shares)).sum())
    likeness = None
    if before is not None and before.shape == values.shape:
        lengths = float(np.linalg.norm(values) * np.linalg.norm(before))
        likeness = float(values @ before) / lengths if lengths else 0.0
    return Statistics(
        name=name,
        total=total,
        least=float(values.min()),
        most=float(values.max()),
        mean=mean,
        deviation=deviation,
        active=float((values > _ACTIVE).mean()),
        columns=values.size,
        entropy=entropy,
        evenness=entropy / np.log2(values.size) if values.size > 1 else 1.0,
        outliers=float((values > mean + deviation).mean()) if deviation else 0.0,
        likeness=likeness,
    )

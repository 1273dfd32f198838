"""Statistics of numbers that come piece by piece: how they are spread, and which columns stand out.

Each number is counted by its upper 16 bits, those of bf16. So memory is that of 65536 counts and a number per
column, whatever is counted, and a percentile is right to one part in 128 of itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import FormatError

Floats = NDArray[np.float32]

# A column is an outlier if its rms is more than so many times the median of all columns' rms.
OUTLIER = 4.0
PERCENTILES = (1.0, 99.0, 99.99)
BINS = 128

_KEYS = 1 << 16
_SIGN = 1 << 15


@dataclass(frozen=True, slots=True)
class Spread:
    """Of numbers in rows of n columns.

    percentiles: those of PERCENTILES. crest: the largest magnitude over the rms. columns: the rms of each,
    (n,). histogram: how many lie in each of BINS equal parts from least to most.
    """

    count: int
    least: float
    most: float
    mean: float
    deviation: float
    rms: float
    percentiles: tuple[float, ...]
    columns: Floats
    histogram: NDArray[np.int64]

    @property
    def crest(self) -> float:
        """1 at least, and large where a few numbers take the whole range; 0 for nothing but zeros."""
        return max(-self.least, self.most) / self.rms if self.rms else 0.0

    def ratios(self) -> Floats:
        """The rms of each column over the median of all; where that is 0, over the mean."""
        middle = float(np.median(self.columns)) or float(self.columns.mean()) or 1.0
        return self.columns / np.float32(middle)

    def outliers(self) -> list[tuple[int, float]]:
        """Columns that stand out and their ratios, the largest first."""
        ratios = self.ratios()
        order = np.argsort(-ratios, kind="stable")
        return [(int(i), float(ratios[i])) for i in order[: int((ratios > OUTLIER).sum())]]


class Tally:
    """Counts pieces of a tensor, or of what linears read."""

    def __init__(self, columns: int) -> None:
        self._squares = np.zeros(columns)
        self._sum, self._rows = 0.0, 0
        self._least, self._most = np.inf, -np.inf
        self._keys = np.zeros(_KEYS, np.int64)

    def add(self, x: Floats) -> None:
        """Count (rows, columns); raises FormatError for NaN and Inf."""
        if not x.size:
            return
        least, most = float(x.min()), float(x.max())
        if not np.isfinite([least, most]).all():
            raise FormatError("has NaN or Inf")
        self._least, self._most = min(self._least, least), max(self._most, most)
        self._rows += len(x)
        self._sum += float(x.sum(dtype=np.float64))
        self._squares += np.einsum("ij,ij->j", x, x, dtype=np.float64)
        keys = np.ascontiguousarray(x).view(np.uint32) >> 16
        self._keys += np.bincount(keys.reshape(-1), minlength=_KEYS)

    def spread(self) -> Spread | None:
        """Of all that was counted; None for nothing."""
        count = self._rows * self._squares.size
        if not count:
            return None
        mean, square = self._sum / count, float(self._squares.sum()) / count
        values, counts = self._ordered()
        return Spread(
            count=count,
            least=self._least,
            most=self._most,
            mean=mean,
            deviation=max(square - mean * mean, 0.0) ** 0.5,
            rms=square**0.5,
            percentiles=tuple(self._percentile(each, values, counts) for each in PERCENTILES),
            columns=np.sqrt(self._squares / self._rows).astype(np.float32),
            histogram=np.histogram(values, BINS, (self._least, self._most), weights=counts)[0].astype(int),
        )

    def _ordered(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The middles of keys that were met, from the least on, and how often each was."""
        keys = np.flatnonzero(self._keys)
        negative = keys >= _SIGN
        keys = np.concatenate([keys[negative][::-1], keys[~negative]])
        middles = ((keys.astype(np.uint32) << 16) + np.uint32(_SIGN)).view(np.float32).astype(np.float64)
        middles[keys % _SIGN == 0] = 0.0
        return np.clip(middles, self._least, self._most), self._keys[keys]

    @staticmethod
    def _percentile(share: float, values: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
        ends = np.cumsum(counts)
        return float(values[np.searchsorted(ends, share / 100 * (ends[-1] - 1), side="right")])

"""How long vectors are made, and how alike two are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_LARGEST = 32760.0  # of 16-bit integers, nearly


def normalized(rows: Floats, norm: int) -> Floats:
    """Rows (n, width) divided by their size: by the p-norm for norm = p > 0, 2 for L2; -1: as they are.

    0: so that the largest value is 32760. Rows of zeros stay. Source: llama.cpp common/common.cpp,
    common_embd_normalize.
    """
    if norm < 0:
        return rows
    values = np.abs(rows.astype(np.float64))
    if norm == 0:
        size = values.max(axis=1, keepdims=True) / _LARGEST
    else:
        # The largest is taken out, so that powers stay within what floats hold.
        largest = np.maximum(values.max(axis=1, keepdims=True), 1e-300)
        size = largest * ((values / largest) ** norm).sum(axis=1, keepdims=True) ** (1 / norm)
    return (rows / np.where(size > 0, size, 1)).astype(np.float32)


def similarities(rows: Floats) -> Floats:
    """Cosines of each row (n, width) with each, (n, n); of a row of zeros 0, with itself 1."""
    lengths = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))
    is_zero = lengths == 0
    unit = rows / np.where(is_zero, 1, lengths)[:, None]
    cosines: Floats = (unit @ unit.T).astype(np.float32)
    cosines[np.ix_(is_zero, is_zero)] = 1
    return cosines

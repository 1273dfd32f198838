"""How far a model's probabilities are from another's: the Kullback-Leibler divergence, token by token."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.errors import ShapeError

# Rows widened to f64 at once: with 128k tokens 33 MB a matrix.
BLOCK_ROWS = 32


def divergence(p_logits: NDArray[np.float32], q_logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """KL(P || Q) of each row, in nats: sum of p * (ln p - ln q), computed in f64.

    p_logits: what is true, q_logits: what is judged; finite, (rows, n_vocab), not normalized.
    Returns (rows,). Raises ShapeError if they differ in shape, or are no matrices.
    """
    if p_logits.ndim != 2 or p_logits.shape != q_logits.shape:
        raise ShapeError(f"logits are {p_logits.shape} and {q_logits.shape}, must be (rows, n_vocab) of both")
    found = np.empty(len(p_logits))
    for start in range(0, len(found), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        ln_p, ln_q = log_softmax(p_logits[block]), log_softmax(q_logits[block])
        found[block] = np.einsum("ij,ij->i", np.exp(ln_p), ln_p - ln_q)
    return found


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logarithms of the probabilities of each row: (rows, n_vocab)."""
    rows = logits.astype(np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return rows

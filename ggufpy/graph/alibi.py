"""Attention with linear biases: how much less the heads see of what is far away."""

from __future__ import annotations


def slopes_of(heads: int, max_bias: float) -> tuple[float, ...]:
    """ALiBi's slopes: a geometric series for a power of two, and for other heads those between.

    Source: ALiBi (arXiv 2108.12409), with the exponent as llama.cpp has it.
    """
    known = 1 << (heads.bit_length() - 1)
    first, other = 2 ** (-max_bias / known), 2 ** (-max_bias / 2 / known)
    return (
        *(first ** (head + 1) for head in range(known)),
        *(other ** (2 * head + 1) for head in range(heads - known)),
    )

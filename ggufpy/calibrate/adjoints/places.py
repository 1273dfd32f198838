"""Rotary tables, and the adjoint of turning by them: turning back."""

from __future__ import annotations

import numpy as np

from ggufpy.calibrate.adjoints.passed import Array, Gradients, Passed
from ggufpy.graph import nodes as n


def rope_table(passed: Passed, node: n.RopeTable, tokens: int) -> Array:
    """(tokens, 2 * pairs): cosines, then sines, times the magnitude of what is turned."""
    factors = passed.weight(node.factors).tolist() if node.factors else None
    frequencies, magnitude = node.rope.frequencies(factors)
    angles = np.arange(tokens)[:, None] * np.array(frequencies)
    table: Array = magnitude * np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)
    return table


def rotate(passed: Passed, node: n.Rotate, g: Array) -> Gradients:
    """Turned back; values that were not turned keep theirs."""
    made, turned = g.copy(), node.table.width
    table = passed[node.table].reshape(len(g), *[1] * (g.ndim - 2), turned)
    cos, sin = np.split(table.astype(g.dtype, copy=False), 2, axis=-1)
    if node.rope.halves:
        first, second = slice(0, turned // 2), slice(turned // 2, turned)
    else:
        first, second = slice(0, turned, 2), slice(1, turned, 2)
    a, b = g[..., first], g[..., second]
    made[..., first] = a * cos + b * sin
    made[..., second] = b * cos - a * sin
    yield node.x, made

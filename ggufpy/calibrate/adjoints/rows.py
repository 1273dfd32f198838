"""Adjoints of what moves, picks and sums values."""

from __future__ import annotations

import numpy as np

from ggufpy.calibrate.adjoints.passed import Array, Gradients, Passed
from ggufpy.graph import Node
from ggufpy.graph import nodes as n


def nothing(passed: Passed, node: Node, *gradients: Array) -> Gradients:
    """Of a node whose inputs count for nothing, or that has none."""
    return iter(())


def view(passed: Passed, node: n.View, g: Array) -> Gradients:
    """In the other shape."""
    yield node.x, g.reshape(len(g), *node.x.shape)


def slice_(passed: Passed, node: n.Slice, g: Array) -> Gradients:
    """Nothing beside the part."""
    whole = np.zeros((len(g), *node.x.shape), g.dtype)
    whole[..., node.start : node.start + g.shape[-1]] = g
    yield node.x, whole


def concat(passed: Passed, node: n.Concat, g: Array) -> Gradients:
    """Each part's own."""
    start = 0
    for part in node.parts:
        stop = start + part.shape[-1]
        yield part, g[..., start:stop]
        start = stop


def copy(passed: Passed, node: n.Copy, g: Array) -> Gradients:
    """The same; all rows are wanted ones."""
    yield node.x, g


def total(passed: Passed, node: n.Total, g: Array) -> Gradients:
    """The same for all that were summed."""
    yield node.x, np.broadcast_to(g[:, None], (len(g), *node.x.shape))


def pool(passed: Passed, node: n.Pool, g: Array) -> Gradients:
    """Of the one row for the text, to its rows."""
    tokens = len(passed[node.x])
    if node.kind == "mean":
        yield node.x, np.repeat(g / tokens, tokens, axis=0)
    else:
        rows = np.zeros((tokens, *node.x.shape), g.dtype)
        rows[0] = g[0]
        yield node.x, rows

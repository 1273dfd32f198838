"""The adjoint of linear ops: back through their matrices."""

from __future__ import annotations

import numpy as np

from ggufpy.calibrate.adjoints.experts import chosen_by
from ggufpy.calibrate.adjoints.functions import FUNCTIONS, SLOPES
from ggufpy.calibrate.adjoints.passed import Array, Gradients, Passed
from ggufpy.graph import nodes as n


def linear(passed: Passed, node: n.Linear, *gradients: Array) -> Gradients:
    """Of each output through its matrix; of a gated pair's through both."""
    if node.add:
        for g in gradients:
            yield node.add, g
    if node.gate:
        first, second = (_forward(passed, node, matrix) for matrix in node.matrices)
        (g,) = gradients
        gradients = g * second * SLOPES[node.gate](first), g * FUNCTIONS[node.gate](first)
    for matrix, g in zip(node.matrices, gradients, strict=True):
        yield node.x, _backward(passed, node, matrix, g)


def _backward(passed: Passed, node: n.Linear, matrix: n.Matrix, g: Array) -> Array:
    weight = _weight(passed, matrix)
    if node.per_head:
        return (g.swapaxes(0, 1) @ weight).swapaxes(0, 1)
    if node.route is None:
        return (g.reshape(-1, g.shape[-1]) @ weight).reshape(len(g), *node.x.shape)
    chosen = chosen_by(passed, node.route)
    made = np.empty((*chosen.shape, weight.shape[-1]), g.dtype)
    for expert in np.unique(chosen):
        its = chosen == expert
        made[its] = g[its] @ weight[expert]
    return made.sum(axis=1) if len(node.x.shape) == 1 else made


def _forward(passed: Passed, node: n.Linear, matrix: n.Matrix) -> Array:
    """What one matrix of a gated pair made."""
    x, weight = passed[node.x], _weight(passed, matrix)
    bias = passed.weight(matrix.bias) if matrix.bias else np.zeros(weight.shape[:-1], weight.dtype)
    if node.route is None:
        return x @ weight.T + bias
    chosen = chosen_by(passed, node.route)
    x = np.broadcast_to(x if x.ndim == 3 else x[:, None], (*chosen.shape, x.shape[-1]))
    made = np.empty((*chosen.shape, weight.shape[1]), x.dtype)
    for expert in np.unique(chosen):
        its = chosen == expert
        made[its] = x[its] @ weight[expert].T + bias[expert]
    return made


def _weight(passed: Passed, matrix: n.Matrix) -> Array:
    weight = passed.weight(matrix.tensor)
    return weight[:, None, None] if weight.ndim == 1 else weight

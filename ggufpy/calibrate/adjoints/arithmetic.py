"""Adjoints of norms, functions, sums and products."""

from __future__ import annotations

import math

import numpy as np

from ggufpy.calibrate.adjoints.functions import SLOPES
from ggufpy.calibrate.adjoints.passed import Array, Gradients, Passed, dot
from ggufpy.graph import nodes as n


def norm(passed: Passed, node: n.Norm, g: Array) -> Gradients:
    """What of it lies along x / size is lost, as the size grows with x."""
    x = passed[node.x]
    if node.weight:
        g = g * passed.weight(node.weight)
    if node.size == "layer":
        x = x - x.mean(axis=-1, keepdims=True)
    squares, width = dot(x, x), x.shape[-1]
    if node.size == "l2":
        size = np.maximum(np.sqrt(squares), node.epsilon)
        shares = np.where(size > node.epsilon, dot(x, g) / (size * size), 0)
    else:
        size = np.sqrt(squares / width + node.epsilon)
        shares = dot(x, g) / (size * size * width)
    made = (g - x * shares) / size
    if node.size == "layer":
        made -= made.mean(axis=-1, keepdims=True)
    yield node.x, made


def unary(passed: Passed, node: n.Unary, g: Array) -> Gradients:
    """Times the function's slope."""
    yield node.x, g * SLOPES[node.function](passed[node.x])


def binary(passed: Passed, node: n.Binary, g: Array) -> Gradients:
    """Each side's own, summed where one value counted for all."""
    of_x, of_y = g, g
    if node.function == "mul":
        of_x = g * passed[node.y]
        if node.y.shape != node.x.shape:
            yield node.y, dot(g, passed[node.x])
        else:
            yield node.y, g * passed[node.x]
    elif node.y.shape != node.x.shape:
        yield node.y, of_y.sum(axis=-1, keepdims=True)
    else:
        yield node.y, of_y
    yield node.x, of_x


def affine(passed: Passed, node: n.Affine, g: Array) -> Gradients:
    """Times the factor; nothing where a limit was met."""
    made = g if node.factor == 1 else g * node.factor
    if math.isfinite(node.low) or math.isfinite(node.high):
        y = passed[node.x] * node.factor + node.offset
        made = made * ((y > node.low) & (y < node.high))
    yield node.x, made


def vector(passed: Passed, node: n.Vector, g: Array) -> Gradients:
    """Times the tensor, if that was a factor."""
    if node.function == "mul":
        g = g * _fitted(passed.weight(node.tensor), node.x.shape)
    yield node.x, g


def _fitted(vector: Array, shape: tuple[int, ...]) -> Array:
    """As it counts for values of a shape: one for all, per value, per value of a head, or per head."""
    if vector.size == math.prod(shape):
        return vector.reshape(shape)
    return vector.ravel() if vector.size in (1, shape[-1]) else vector.reshape(shape[0], 1)

"""Which experts a token has, and the adjoint of their weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.calibrate.adjoints.functions import sigmoid, softmax
from ggufpy.calibrate.adjoints.passed import Array, Gradients, Passed, dot
from ggufpy.graph import Value
from ggufpy.graph import nodes as n

_LEAST_SUM = 2.0**-14  # of weights that are normalized


def chosen_by(passed: Passed, weights: Value) -> NDArray[np.int64]:
    """The experts whose weights a value has: (tokens, slots)."""
    node = passed.makers[weights]
    assert isinstance(node, n.Route)
    return _chosen(passed, node, _shares(node, passed[node.logits]))


def route(passed: Passed, node: n.Route, g: Array) -> Gradients:
    """Through the weights of the chosen; that others could have been chosen counts for nothing."""
    logits = passed[node.logits]
    p = _shares(node, logits)
    chosen = _chosen(passed, node, p)
    g = g[..., 0] * node.scale
    own = np.take_along_axis(p, chosen, axis=-1)
    if node.gating == "sparsemixer":
        yield node.logits, _through_mixer(node, p, chosen, g)
        return
    if node.gating == "chosen":
        own = softmax(own)
    if node.normalize:
        g = _normalized(own, g)
    if node.gating == "chosen":
        g = own * (g - dot(own, g))
    of_p = np.zeros_like(p)
    np.put_along_axis(of_p, chosen, g, axis=-1)
    if node.gating == "softmax":
        of_p = p * (of_p - dot(p, of_p))
    elif node.gating == "sigmoid":
        of_p = of_p * p * (1 - p)
    yield node.logits, of_p


def _shares(node: n.Route, logits: Array) -> Array:
    if node.gating == "softmax":
        return softmax(logits)
    return sigmoid(logits) if node.gating == "sigmoid" else logits


def _chosen(passed: Passed, node: n.Route, p: Array) -> NDArray[np.int64]:
    choice = p + passed.weight(node.bias) if node.bias else p
    groups = choice.reshape(len(p), node.groups, -1).copy()
    best = np.sort(groups)[..., -node.group_best :].sum(axis=-1)
    others = np.argsort(-best, axis=-1, kind="stable")[:, node.groups_used :]
    np.put_along_axis(groups, others[:, :, None], -np.inf, axis=1)
    order = np.argsort(-groups.reshape(p.shape), axis=-1, kind="stable")
    return order[:, : node.outputs[0].shape[0]]


def _normalized(own: Array, g: Array) -> Array:
    """Of weights before they were divided by their sum."""
    total = own.sum(axis=-1, keepdims=True)
    divided = np.maximum(total, _LEAST_SUM)
    made: Array = (g - np.where(total > _LEAST_SUM, dot(own, g) / divided, 0)) / divided
    return made


def _through_mixer(node: n.Route, p: Array, chosen: NDArray[np.int64], g: Array) -> Array:
    """Each slot's weight is a softmax over the experts close to the chosen one, none chosen before."""
    shares = np.zeros((*chosen.shape, p.shape[1]), p.dtype)
    for slot in range(chosen.shape[1]):
        best = np.take_along_axis(p, chosen[:, slot : slot + 1], axis=-1)
        close = best - p <= 2 * node.jitter * np.maximum(np.abs(p), best)
        np.put_along_axis(close, chosen[:, :slot], False, axis=-1)
        shares[:, slot] = softmax(np.where(close, p, -np.inf))
    own = np.take_along_axis(shares, chosen[..., None], axis=-1)[..., 0]
    if node.normalize:
        g = _normalized(own, g)
    made: Array = -np.einsum("ts,tse->te", own * g, shares)
    np.put_along_axis(made, chosen, np.take_along_axis(made, chosen, axis=-1) + own * g, axis=-1)
    return made

"""Adjoints of attention and of what it keeps; all heads of a context at once."""

from __future__ import annotations

import numpy as np

from ggufpy.calibrate.adjoints.passed import Array, Gradients, Passed, dot
from ggufpy.graph import nodes as n


def keep(passed: Passed, node: n.Keep, g: Array) -> Gradients:
    """The parts of keys and of values."""
    yield node.k, g[..., : node.k.shape[-1]]
    yield node.v, g[..., node.k.shape[-1] :]


def kept(passed: Passed, node: n.Keep) -> Array:
    """What stands for the rows that are kept: (tokens, heads, keys and values)."""
    return np.concatenate([passed[node.k], passed[node.v]], axis=-1)


def attention(passed: Passed, node: n.Attention, g: Array) -> Gradients:
    """Through the weighted mean to the values, through the weights to queries and keys."""
    q, kept = passed[node.q], passed[node.kept]
    tokens, heads, width = q.shape
    factor = _factors(node, tokens).astype(q.dtype)
    q = _grouped(q * factor, kept.shape[1])
    g = _grouped(g, kept.shape[1])
    k, v = (np.ascontiguousarray(part.swapaxes(0, 1)) for part in np.split(kept, [width], axis=-1))
    shares, slope = _shares(passed, node, q @ k.swapaxes(1, 2), tokens)
    of_scores = g @ v.swapaxes(1, 2)
    of_scores -= dot(of_scores, shares)
    of_scores *= shares
    if slope is not None:
        of_scores *= slope
    of_k, of_v = of_scores.swapaxes(1, 2) @ q, shares.swapaxes(1, 2) @ g
    yield node.kept, np.concatenate([of_k, of_v], axis=-1).swapaxes(0, 1)
    of_q = (of_scores @ k).reshape(heads, tokens, width).swapaxes(0, 1)
    yield node.q, of_q * factor


def _factors(node: n.Attention, tokens: int) -> Array:
    """What queries are scaled by, (tokens, 1, 1)."""
    steps = (np.arange(tokens) + node.temperature_offset) // node.temperature_length
    return (node.scale * (1 + node.temperature * np.log1p(steps)))[:, None, None]


def _grouped(x: Array, groups: int) -> Array:
    """(tokens, heads, n) as (groups, heads of a group * tokens, n)."""
    return np.ascontiguousarray(x.swapaxes(0, 1)).reshape(groups, -1, x.shape[-1])


def _shares(passed: Passed, node: n.Attention, scores: Array, tokens: int) -> tuple[Array, Array | None]:
    """The softmax of scores, in place; what capping made of their slopes, if they were."""
    shape, slope = scores.shape, None
    if node.softcap:
        scores /= node.softcap
        np.tanh(scores, out=scores)
        slope = 1 - scores * scores
        scores *= node.softcap
    scores = scores.reshape(-1, tokens, tokens)
    back = np.arange(tokens)[:, None] - np.arange(tokens)
    if node.slopes:
        scores -= np.array(node.slopes, scores.dtype)[:, None, None] * np.abs(back).astype(scores.dtype)
    np.copyto(scores, -np.inf, where=~_seen(passed, node, back))
    most = scores.max(axis=-1, keepdims=True)
    if node.sinks:
        sinks = passed.weight(node.sinks).astype(scores.dtype)[:, None, None]
        most = np.maximum(most, sinks)
    scores -= most
    np.exp(scores, out=scores)
    total = scores.sum(axis=-1, keepdims=True)
    scores /= total + np.exp(sinks - most) if node.sinks else total
    return scores.reshape(shape), slope


def _seen(passed: Passed, node: n.Attention, back: Array) -> Array:
    """Which places a row sees, by how far back they are: (tokens, tokens)."""
    tokens, keeper = len(back), passed.makers[node.kept]
    assert isinstance(keeper, n.Keep)
    window = keeper.window or tokens
    seen: Array = (back < window) & (back > (-1 if node.causal else -window))
    if node.chunk:
        rows = np.arange(tokens)
        seen &= rows >= (rows // node.chunk * node.chunk)[:, None]
    return seen

"""What a graph computes, in NumPy and f64: a second opinion on every op, in the words of graph/nodes.py.

It computes all tokens of one text at once. A value is an array (tokens, *shape); nothing is fused, cut into
batches or kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.gguf.reader import TensorInfo
from ggufpy.graph import Node, Value
from ggufpy.graph import nodes as n
from ggufpy.quants import decode

Array = NDArray[np.float64]
Tensors = Mapping[str, NDArray[Any]]


@dataclass
class Text:
    """The tokens of one text, what is known of them, and the values computed so far.

    angles: what rotary embeddings turn by, (4, tokens); places if None. given: rows in place of tokens that
    are -1. wanted: the rows that nodes of the wanted rows work on. disturbed: a node whose result is spoilt.
    """

    tensors: Tensors
    tokens: Sequence[int]
    angles: NDArray[Any] | None = None
    given: NDArray[Any] | None = None
    wanted: Sequence[int] = ()
    disturbed: Node | None = None
    values: dict[Value, Array] = field(default_factory=dict)
    chosen: dict[Value, NDArray[np.int64]] = field(default_factory=dict)  # experts, by their weights
    windows: dict[Value, int | None] = field(default_factory=dict)

    def __getitem__(self, value: Value) -> Array:
        return self.values[value]

    def tensor(self, name: str) -> Array:
        return self.tensors[name].astype(np.float64, copy=False)

    def places(self, node: Node) -> NDArray[np.int64]:
        """The places of the rows that a node works on."""
        return np.array(self.wanted) if node.rows == "wanted" else np.arange(len(self.tokens))

    def run(self, nodes: Iterable[Node]) -> None:
        """Compute `values` in the order of `nodes`."""
        for node in nodes:
            made = OPS[type(node)](self, node)
            results = made if isinstance(made, list) else [made]
            for value, result in zip(node.outputs, results, strict=True):
                rows = 1 if node.rows == "texts" else len(self.places(node))
                assert result.shape == (rows, *value.shape), (node, result.shape)
                self.values[value] = _spoilt(result) if node is self.disturbed else result


def compute(
    nodes: Iterable[Node], output: Value, tensors: Tensors, tokens: Sequence[int], **text: Any
) -> Array:
    """The rows of `output` for a text; further arguments are those of `Text`."""
    run = Text(tensors, tokens, **text)
    run.run(nodes)
    return run[output]


def decoded(tensors: Mapping[str, TensorInfo]) -> dict[str, Array]:
    """The tensors of a file as floats, in their shapes."""
    sources = {name: info.source() for name, info in tensors.items()}
    return {
        name: decode(source.read(0, source.rows), source.type).reshape(source.shape).astype(np.float64)
        for name, source in sources.items()
    }


def _spoilt(y: Array) -> Array:
    noise = np.random.default_rng(0).standard_normal(y.shape)
    spoilt: Array = y + 0.05 * np.sqrt((y * y).mean()) * noise
    return spoilt


# ---- Views and rows ----


def _view(t: Text, node: n.View) -> Array:
    return t[node.x].reshape(-1, *node.outputs[0].shape)


def _slice(t: Text, node: n.Slice) -> Array:
    return t[node.x][..., node.start : node.start + node.outputs[0].shape[-1]]


def _concat(t: Text, node: n.Concat) -> Array:
    return np.concatenate([t[part] for part in node.parts], axis=-1)


def _embed(t: Text, node: n.Embed) -> Array:
    tokens = np.array(t.tokens)
    rows = {"token": tokens, "place": np.arange(len(tokens)), "first": 0 * tokens}[node.by][t.places(node)]
    y: Array = t.tensor(node.tensor)[rows] * node.scale
    if t.given is not None:
        y[rows < 0] = t.given[t.places(node)][rows < 0]
    return y


def _copy(t: Text, node: n.Copy) -> Array:
    return t[node.x][t.places(node)] if node.picks else t[node.x]


def _pool(t: Text, node: n.Pool) -> Array:
    x = t[node.x]
    y: Array = {"mean": x.mean(axis=0), "first": x[0]}[node.kind]
    return y[None]


# ---- Arithmetic ----


def sigmoid(x: Array) -> Array:
    y: Array = 1 / (1 + np.exp(-x))
    return y


def erf(x: Array) -> Array:
    return np.array([math.erf(each) for each in x.ravel()]).reshape(x.shape)


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * x * (1 + 0.044715 * x * x))),
    "gelu_erf": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "gelu_quick": lambda x: x * sigmoid(1.702 * x),
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
    "sigmoid": sigmoid,
    "softplus": lambda x: np.where(x > 20, x, np.log1p(np.exp(np.minimum(x, 20)))),
    "tanh": np.tanh,
}


def _linear(t: Text, node: n.Linear) -> Array | list[Array]:
    results = [_multiplied(t, node, matrix) for matrix in node.matrices]
    if node.gate:
        first, second = results
        results = [FUNCTIONS[node.gate](first) * second]
    return [y + t[node.add] for y in results] if node.add else results


def _multiplied(t: Text, node: n.Linear, matrix: n.Matrix) -> Array:
    x, weight = t[node.x], t.tensor(matrix.tensor)
    weight = weight[:, None, None] if weight.ndim == 1 else weight
    bias = t.tensor(matrix.bias) if matrix.bias else np.zeros(weight.shape[:-1])
    if node.per_head:
        heads: Array = np.einsum("thi,hoi->tho", x, weight)
        return heads
    if node.route is None:
        flat: Array = x @ weight.T + bias
        return flat
    chosen = t.chosen[node.route]  # (tokens, slots)
    x = np.broadcast_to(x if x.ndim == 3 else x[:, None], (*chosen.shape, x.shape[-1]))
    y = np.empty((*chosen.shape, weight.shape[1]))
    for expert in np.unique(chosen):
        its = chosen == expert
        y[its] = x[its] @ weight[expert].T + bias[expert]
    return y


def _norm(t: Text, node: n.Norm) -> Array:
    x = t[node.x]
    if node.size == "layer":
        x = x - x.mean(axis=-1, keepdims=True)
    if node.size == "l2":
        size = np.maximum(np.sqrt((x * x).sum(axis=-1, keepdims=True)), node.epsilon)
    else:
        size = np.sqrt((x * x).mean(axis=-1, keepdims=True) + node.epsilon)
    y: Array = x / size
    y = y * t.tensor(node.weight) if node.weight else y
    return y + t.tensor(node.bias) if node.bias else y


def _unary(t: Text, node: n.Unary) -> Array:
    return FUNCTIONS[node.function](t[node.x])


def _binary(t: Text, node: n.Binary) -> Array:
    return t[node.x] * t[node.y] if node.function == "mul" else t[node.x] + t[node.y]


def _affine(t: Text, node: n.Affine) -> Array:
    return np.clip(t[node.x] * node.factor + node.offset, node.low, node.high)


def _vector(t: Text, node: n.Vector) -> Array:
    x = t[node.x]
    v: Array = t.tensor(node.tensor).ravel()
    if v.size == math.prod(x.shape[1:]):
        v = v.reshape(x.shape[1:])
    elif v.size not in (1, x.shape[-1]):
        v = v.reshape(x.shape[1], 1)
    return x * v if node.function == "mul" else x + v


def _total(t: Text, node: n.Total) -> Array:
    total: Array = t[node.x].sum(axis=1)
    return total


# ---- Experts ----


def softmax(x: Array) -> Array:
    shares = np.exp(x - x.max(axis=-1, keepdims=True))
    y: Array = shares / shares.sum(axis=-1, keepdims=True)
    return y


def _route(t: Text, node: n.Route) -> Array:
    logits, slots = t[node.logits], node.outputs[0].shape[0]
    gatings = {"softmax": softmax, "sigmoid": sigmoid}
    p = gatings[node.gating](logits) if node.gating in gatings else logits
    choice = p + t.tensor(node.bias) if node.bias else p
    groups = choice.reshape(len(p), node.groups, -1).copy()
    best = np.sort(groups)[..., -node.group_best :].sum(axis=-1)
    others = np.argsort(-best, axis=-1, kind="stable")[:, node.groups_used :]
    np.put_along_axis(groups, others[:, :, None], -np.inf, axis=1)
    chosen = np.argsort(-groups.reshape(p.shape), axis=-1, kind="stable")[:, :slots]
    weights = np.take_along_axis(p, chosen, axis=-1)
    if node.gating == "chosen":
        weights = softmax(weights)
    if node.gating == "sparsemixer":
        for slot, best in enumerate(weights.copy().T[:, :, None]):
            close = best - p <= 2 * node.jitter * np.maximum(abs(p), best)
            close &= ~(np.arange(p.shape[1]) == chosen[:, :slot, None]).any(axis=1)
            weights[:, slot] = 1 / (np.exp(p - best) * close).sum(axis=1)
    if node.normalize:
        weights = weights / np.maximum(weights.sum(axis=-1, keepdims=True), 2.0**-14)
    t.chosen[node.outputs[0]] = chosen
    return weights[..., None] * node.scale


# ---- Places ----


def _rope_table(t: Text, node: n.RopeTable) -> Array:
    """Cosines, then sines."""
    factors = t.tensor(node.factors).tolist() if node.factors else None
    frequencies, magnitude = node.rope.frequencies(factors)
    every = np.tile(np.arange(len(t.tokens)), (4, 1)) if t.angles is None else t.angles
    axes = [axis for axis, pairs in enumerate(node.sections) for _ in range(pairs)]
    axes += [0] * (len(frequencies) - len(axes))
    angles = every[axes].T[t.places(node)] * np.array(frequencies)
    return magnitude * np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)


def _rotate(t: Text, node: n.Rotate) -> Array:
    y, turned = t[node.x].copy(), node.table.width
    cos, sin = np.split(t[node.table].reshape(len(y), *[1] * (y.ndim - 2), turned), 2, axis=-1)
    half = slice(0, turned // 2), slice(turned // 2, turned)
    first, second = half if node.rope.halves else (slice(0, turned, 2), slice(1, turned, 2))
    a, b = t[node.x][..., first], t[node.x][..., second]
    y[..., first], y[..., second] = a * cos - b * sin, a * sin + b * cos
    return y


# ---- State ----


def _keep(t: Text, node: n.Keep) -> Array:
    t.windows[node.outputs[0]] = node.window
    return np.concatenate([t[node.k], t[node.v]], axis=-1)


def _attention(t: Text, node: n.Attention) -> Array:
    q, kept, rows = t[node.q], t[node.kept], t.places(node)
    kept = np.repeat(kept, q.shape[1] // kept.shape[1], axis=1)
    k, v = kept[..., : q.shape[-1]], kept[..., q.shape[-1] :]
    steps = (rows + node.temperature_offset) // node.temperature_length
    grown = 1 + node.temperature * np.log1p(steps)
    scores = np.einsum("thd,shd->hts", q * node.scale * grown[:, None, None], k)
    if node.softcap:
        scores = node.softcap * np.tanh(scores / node.softcap)
    back = rows[:, None] - np.arange(len(k))  # places from a row back to another
    window = t.windows[node.kept] or len(k)
    if node.slopes:
        scores = scores - np.array(node.slopes)[:, None, None] * np.abs(back)
    seen = (back < window) & (back > (-1 if node.causal else -window))
    if node.chunk:
        seen &= np.arange(len(k)) >= (rows // node.chunk * node.chunk)[:, None]
    scores = np.where(seen, scores, -np.inf)
    if node.sinks:
        sinks = np.broadcast_to(t.tensor(node.sinks)[:, None, None], (*scores.shape[:2], 1))
        scores = np.concatenate([scores, sinks], axis=-1)
    y: Array = np.einsum("hts,shd->thd", softmax(scores)[..., : len(k)], v)
    return y


def _conv(t: Text, node: n.Conv) -> Array:
    x, weight = t[node.x], t.tensor(node.tensor)
    padded = np.concatenate([np.zeros((node.size - 1, x.shape[1])), x])
    y: Array = np.sum([padded[j : j + len(x)] * weight[:, j] for j in range(node.size)], axis=0)
    return y + t.tensor(node.bias) if node.bias else y


def _scan(t: Text, node: n.Scan) -> Array:
    x, dt, a = t[node.x], t[node.dt], t.tensor(node.a)
    b, c = (np.repeat(t[value], x.shape[1] // value.shape[0], axis=1) for value in (node.b, node.c))
    state, y = np.zeros((*x.shape[1:], b.shape[-1])), np.empty_like(x)
    for i in range(len(x)):
        state = state * np.exp(dt[i][:, None] * a)[:, None] + np.einsum("h,hn,hm->hnm", dt[i], x[i], b[i])
        y[i] = np.einsum("hnm,hm->hn", state, c[i])
    return y


def _delta_rule(t: Text, node: n.DeltaRule) -> Array:
    v, beta, decay = t[node.v], t[node.beta], np.exp(t[node.decay])
    q, k = (np.tile(t[value], (1, v.shape[1] // value.shape[0], 1)) for value in (node.q, node.k))
    state, y = np.zeros((v.shape[1], k.shape[-1], v.shape[-1])), np.empty_like(v)
    for i in range(len(v)):
        state = state * decay[i][:, None, None]
        change = beta[i][:, None] * (v[i] - np.einsum("hnm,hn->hm", state, k[i]))
        state = state + np.einsum("hn,hm->hnm", k[i], change)
        y[i] = np.einsum("hnm,hn->hm", state, q[i]) / math.sqrt(q.shape[-1])
    return y


OPS: dict[type[Node], Callable[[Text, Any], Any]] = {
    n.View: _view,
    n.Slice: _slice,
    n.Concat: _concat,
    n.Embed: _embed,
    n.Copy: _copy,
    n.Pool: _pool,
    n.Linear: _linear,
    n.Norm: _norm,
    n.Unary: _unary,
    n.Binary: _binary,
    n.Affine: _affine,
    n.Vector: _vector,
    n.Total: _total,
    n.Route: _route,
    n.RopeTable: _rope_table,
    n.Rotate: _rotate,
    n.Keep: _keep,
    n.Attention: _attention,
    n.Conv: _conv,
    n.Scan: _scan,
    n.DeltaRule: _delta_rule,
}

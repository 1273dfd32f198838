"""AltUp: several streams of which a layer works on the first; the others are predicted and corrected.

Source: Alternating Updates (arXiv 2301.13310); transformers modeling_gemma3n.py, Gemma3nTextAltUp.
"""

from __future__ import annotations

import math

from ggufpy.architectures._decoder import added
from ggufpy.graph import Graph, Layer, Value


def streams_of(g: Graph, x: Value, n: int) -> Value:
    """(n, width): x, and what is made of it."""
    others = g.concat(*[x] * (n - 1)).view(n - 1, x.width)
    return g.concat(x, _as_long_as(g, x, others, "altup_proj")).view(n, x.width)


def mean_of(g: Graph, x: Value) -> Value:
    """One stream, (width,): the mean of the first and what is made of the others."""
    n, width = x.shape
    first, others = x.flat()[:width], x.flat()[width:].view(n - 1, width)
    all_of_them = g.concat(first, _as_long_as(g, first, others, "altup_unembd_proj"))
    return g.total(all_of_them.view(n, width)) * (1 / n)


def _as_long_as(g: Graph, x: Value, others: Value, name: str) -> Value:
    """Each through its matrix, then as long as x; flat."""
    made = g.linear_of_heads(others, name)
    made = g.norm(made, size="l2", epsilon=math.sqrt(1e-5 * x.width))
    length = added(g, x * g.norm(x, size="l2", epsilon=1e-30))
    return made.flat() * length


def predicted(layer: Layer, x: Value) -> Value:
    """All streams as the first tells them, (n, width)."""
    n, width = x.shape
    c = layer.linear(_modalities(layer, x.flat()[:width], n), "altup_predict_coef", outputs=n * n)
    mixed = [layer.total(x * c[i * n : i * n + n].view(n, 1)) for i in range(n)]
    return layer.concat(*mixed).view(n, width) + x


def corrected(layer: Layer, x: Value, y: Value) -> list[Value]:
    """Each stream of x, (n, width), by what the layer made of the first: y."""
    n, width = x.shape
    c = layer.linear(_modalities(layer, y, n), "altup_correct_coef", outputs=n) + 1.0
    streams = x.flat().split(*[width] * n)
    change = y + streams[0] * -1.0
    return [stream + change * c[i : i + 1] for i, stream in enumerate(streams)]


def _modalities(layer: Layer, x: Value, n: int) -> Value:
    h = layer.norm(x, "altup_router_norm") * (1 / x.width)
    return layer.linear(h, "altup_router", outputs=n).apply("tanh")

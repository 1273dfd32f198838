"""GPT-OSS: experts with biases, a sink for each head, every other layer with a window."""

from __future__ import annotations

from functools import partial

from ggufpy.architectures._decoder import Shape, experts, head, qkv, windows
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES: tuple[str, ...] = ()

_LIMIT = 7.0  # of what goes into the activation


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer; experts are weighted by the softmax of those chosen."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    local = shape.local_rope(g, rope, rope.base)
    x = g.embed("token_embd", shape.width)
    for layer, window in zip(g.layers(shape.layers), windows(g, shape, every=2), strict=True):
        q, k, v = qkv(layer, layer.norm(x, "attn_norm"), shape)
        q, k = (layer.rope(y, local if window else rope) for y in (q, k))
        y = layer.attention(q, layer.keep(k, v, window), sinks="attn_sinks.weight").flat()
        x = x + layer.linear(y, "attn_output")
        h = layer.norm(x, "post_attention_norm")
        x = x + experts(layer, h, partial(_activate, layer), gating="chosen")
    return head(g, x)


def _activate(layer: Layer, gate: Value, up: Value) -> Value:
    """Gate * sigmoid(1.702 gate) * (up + 1), both limited."""
    return layer.clamp(gate, high=_LIMIT).apply("gelu_quick") * (layer.clamp(up, -_LIMIT, _LIMIT) + 1.0)

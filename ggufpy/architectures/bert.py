"""BERT: every token sees all others; the result is one row for each text."""

from __future__ import annotations

from typing import Literal

from ggufpy.architectures._decoder import Shape, qkv
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES = ()

_POOLINGS: tuple[Literal["mean", "first", "last"] | None, ...] = (None, "mean", "first", "last")


def forward(g: Graph) -> Outputs:
    """Post-norm encoder with learned positions; embeddings are pooled as the file says."""
    shape = Shape.read(g)
    g.keys.expect("attention.causal", False)
    x = g.embed("token_embd", shape.width) + g.embed("token_types", shape.width, by="first")
    x = x + g.embed("position_embd", shape.width, by="place")
    x = g.norm(x, "token_embd_norm", size="layer")
    for layer in g.layers(shape.layers):
        y = layer.attention(*_query(layer, x, shape), causal=False).flat()
        x = layer.norm(x + layer.linear(y, "attn_output"), "attn_output_norm", size="layer")
        h = layer.linear(layer.linear(x, "ffn_up").apply("gelu"), "ffn_down")
        x = layer.norm(x + h, "layer_output_norm", size="layer")
    pooling = _POOLINGS[g.keys.integer("pooling_type", 0, least=0, most=len(_POOLINGS) - 1)]
    return {"embeddings": g.pool(x, pooling) if pooling else x}


def _query(layer: Layer, x: Value, shape: Shape) -> tuple[Value, Value]:
    q, k, v = qkv(layer, x, shape)
    return q, layer.keep(k, v)

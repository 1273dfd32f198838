"""Gemma 3: norms before and after, five layers with a window for one without, GELU, tied output."""

from __future__ import annotations

import math
from dataclasses import replace

from ggufpy.architectures._decoder import Shape, gated, head, qkv, windows
from ggufpy.graph import Graph, Outputs

HF_CLASSES: tuple[str, ...] = ()


def forward(g: Graph) -> Outputs:
    """Layers with a window turn by a base of their own, and are never scaled."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    local = replace(shape.local_rope(g, rope, 10000.0), scaling="none")
    scale = g.keys.number("attention.scale", 0.0) or None
    x = g.embed("token_embd", shape.width, scale=math.sqrt(shape.width))
    for layer, window in zip(g.layers(shape.layers), windows(g, shape, every=6), strict=True):
        q, k, v = qkv(layer, layer.norm(x, "attn_norm"), shape)
        turn = local if window else rope
        q, k = (layer.rope(layer.norm(y, name), turn) for y, name in ((q, "attn_q_norm"), (k, "attn_k_norm")))
        y = layer.attention(q, layer.keep(k, v, window), scale=scale).flat()
        x = x + layer.norm(layer.linear(y, "attn_output"), "post_attention_norm")
        h = gated(layer, layer.norm(x, "ffn_norm"), "gelu")
        x = x + layer.norm(h, "post_ffw_norm")
    return capped(g, head(g, x))


def capped(g: Graph, outputs: Outputs) -> Outputs:
    """Logits become cap * tanh(logits / cap), where the file says so."""
    cap = g.keys.number("final_logit_softcapping", 0.0)
    if not cap:
        return outputs
    return {**outputs, "logits": (outputs["logits"] * (1 / cap)).apply("tanh") * cap}

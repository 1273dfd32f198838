"""Qwen3 with experts in place of the feed-forward network."""

from __future__ import annotations

from ggufpy.architectures._decoder import Shape, experts, head, qkv, swiglu
from ggufpy.graph import Graph, Outputs

HF_CLASSES: tuple[str, ...] = ()


def forward(g: Graph) -> Outputs:
    """Qwen3's attention, then experts whose weights sum to 1."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        q, k, v = qkv(layer, layer.norm(x, "attn_norm"), shape)
        q, k = (layer.rope(layer.norm(y, name), rope) for y, name in ((q, "attn_q_norm"), (k, "attn_k_norm")))
        x = x + layer.linear(layer.attention(q, layer.keep(k, v)).flat(), "attn_output")
        h = layer.norm(x, "ffn_norm")
        x = x + experts(layer, h, swiglu, normalize=True)
    return head(g, x)

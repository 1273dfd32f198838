"""Qwen3: Llama with a norm on each head of q and k, and pairs that lie half a head apart."""

from __future__ import annotations

from ggufpy.architectures._decoder import Shape, gated, head, qkv
from ggufpy.graph import Graph, Outputs

HF_CLASSES: tuple[str, ...] = ()


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer; norms of heads before RoPE."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        q, k, v = qkv(layer, layer.norm(x, "attn_norm"), shape)
        q, k = (layer.rope(layer.norm(y, name), rope) for y, name in ((q, "attn_q_norm"), (k, "attn_k_norm")))
        x = x + layer.linear(layer.attention(q, layer.keep(k, v)).flat(), "attn_output")
        x = x + gated(layer, layer.norm(x, "ffn_norm"), "silu")
    return head(g, x)

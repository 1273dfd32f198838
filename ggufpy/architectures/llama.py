"""Llama, and all that share its graph: Llama 1 to 3, Mistral, TinyLlama, Yi, SmolLM2."""

from __future__ import annotations

from ggufpy.graph import Graph, Node


def forward(g: Graph) -> Node:
    """Pre-norm transformer with grouped attention, rotary positions and a gated feed-forward network."""
    x = g.embed("token_embd")
    for layer in g.layers():
        h = layer.rms_norm(x, "attn_norm")
        q, k, v = layer.linear(h, "attn_q"), layer.linear(h, "attn_k"), layer.linear(h, "attn_v")
        x = x + layer.linear(layer.attention(layer.rope(q), layer.rope(k), v), "attn_output")
        h = layer.rms_norm(x, "ffn_norm")
        x = x + layer.linear(layer.linear(h, "ffn_gate").silu() * layer.linear(h, "ffn_up"), "ffn_down")
    return g.linear(g.rms_norm(x, "output_norm"), "output", tied="token_embd")

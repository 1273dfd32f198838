"""What nearly all decoders have: their shape, and the parts that they are put together from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from ggufpy.graph import Graph, Layer, Outputs, Value
from ggufpy.graph.rope import Rope
from ggufpy.graph.values import Function

MOST_LAYERS = 512  # llama.cpp's LLAMA_MAX_LAYERS


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a decoder-only transformer; head counts are per layer. Reading it raises FormatError."""

    layers: int
    width: int
    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    key_length: int
    value_length: int

    @classmethod
    def read(cls, g: Graph) -> Shape:
        """From metadata."""
        k = g.keys
        layers = k.integer("block_count", most=MOST_LAYERS)
        width = k.integer("embedding_length", most=1 << 20)
        k.integer("context_length")
        heads = k.integers("attention.head_count", layers)
        size = max(width // heads[0], 1)
        return cls(
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=k.integers("attention.head_count_kv", layers, heads),
            key_length=k.integer("attention.key_length", size, most=1 << 16),
            value_length=k.integer("attention.value_length", size, most=1 << 16),
        )

    def rope(self, g: Graph, *, halves: bool) -> Rope:
        """Rotary embedding of all heads; halves: value i is paired with the one half a head away."""
        return Rope.read(g.keys, self.key_length, halves=halves)

    def local_rope(self, g: Graph, rope: Rope, default: float) -> Rope:
        """`rope` for layers with a window: with a base of their own, or `default`."""
        g.keys.expect("rope.dimension_count_swa", rope.dimensions)
        return replace(rope, base=g.keys.number("rope.freq_base_swa", default, above=1.0))


def qkv(layer: Layer, h: Value, shape: Shape) -> tuple[Value, Value, Value]:
    """Queries, keys and values, (heads, n) each."""
    heads, kv_heads = shape.heads[layer.index], shape.kv_heads[layer.index]
    q, k, v = (
        layer.linear(h, name, outputs=count * size).view(count, size)
        for name, count, size in (
            ("attn_q", heads, shape.key_length),
            ("attn_k", kv_heads, shape.key_length),
            ("attn_v", kv_heads, shape.value_length),
        )
    )
    return q, k, v


def gated(layer: Layer, h: Value, function: Function) -> Value:
    """Feed-forward network: down(function(gate) * up)."""
    inner = _if_said(layer, "feed_forward_length")
    gate, up = (layer.linear(h, name, outputs=inner) for name in ("ffn_gate", "ffn_up"))
    return layer.linear(gate.apply(function) * up, "ffn_down", outputs=h.width)


def _if_said(layer: Layer, key: str) -> int | None:
    """A size of this layer, None where the file does not say."""
    if not layer.keys.has(key):
        return None
    return layer.keys.integers(key, layer.index + 1, least=0)[layer.index] or None


def windows(g: Graph, shape: Shape, *, every: int) -> list[int | None]:
    """The window of each layer, None where it attends to all.

    every: each so manieth layer attends to all, where the file does not say which do; 0: none has a window.
    """
    k = g.keys
    window = k.integer("attention.sliding_window", 0, least=0)
    local = k.pattern("attention.sliding_window_pattern", shape.layers, every)
    k.expect("attention.key_length_swa", shape.key_length)
    k.expect("attention.value_length_swa", shape.value_length)
    return [window if window and is_local else None for is_local in local]


def swiglu(gate: Value, up: Value) -> Value:
    """silu(gate) * up."""
    return gate.apply("silu") * up


def experts(
    layer: Layer,
    h: Value,
    activate: Callable[[Value, Value], Value],
    *,
    gating: Literal["softmax", "sigmoid", "chosen"] = "softmax",
    normalize: bool = False,
) -> Value:
    """Mixture of experts: the weighted sum of down(activate(gate, up)) over the experts of each token."""
    k = layer.keys
    count = k.integer("expert_count", most=1 << 16)
    used = k.integer("expert_used_count", most=count)
    scale = k.number("expert_weights_scale", 1.0) or 1.0
    inner = _if_said(layer, "expert_feed_forward_length")
    logits = layer.linear(h, "ffn_gate_inp", outputs=count)
    chosen = layer.route(logits, used, gating=gating, normalize=normalize, scale=scale)
    gate, up = (
        layer.linear_of_experts(h, name, chosen, outputs=inner) for name in ("ffn_gate_exps", "ffn_up_exps")
    )
    y = layer.linear_of_experts(activate(gate, up), "ffn_down_exps", chosen, outputs=h.width)
    return layer.total(y * chosen.weights)


def head(g: Graph, x: Value) -> Outputs:
    """The last norm, whose result is the embeddings, and the output, which may be the input's tensor."""
    x = g.norm(x, "output_norm")
    g.ignore("cls.output.weight")  # of a reranker made from a language model
    return {"logits": g.linear(x, "output", tied="token_embd"), "embeddings": x}

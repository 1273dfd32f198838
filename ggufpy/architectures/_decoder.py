"""What nearly all decoders have: their shape, and the parts that they are put together from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from ggufpy.architectures._pooling import pooled
from ggufpy.graph import Graph, Layer, Outputs, Value
from ggufpy.graph.nodes import Size
from ggufpy.graph.ops import Experts
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
        """From metadata; layers that predict tokens after the next one (`nextn`) are left out."""
        k = g.keys
        blocks = k.integer("block_count", most=MOST_LAYERS)
        layers = blocks - k.integer("nextn_predict_layers", 0, least=0, most=blocks - 1)
        g.skip_layers(layers, blocks)
        width = k.integer("embedding_length", most=1 << 20)
        k.integer("context_length")
        heads = k.integers("attention.head_count", layers, least=0)
        size = max(width // max(*heads, 1), 1)
        return cls(
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=k.integers("attention.head_count_kv", layers, heads, least=0),
            key_length=k.integer("attention.key_length", size, most=1 << 16),
            value_length=k.integer("attention.value_length", size, most=1 << 16),
        )

    def recurrent(self, g: Graph) -> list[bool]:
        """Which layers have no attention: those without heads of keys."""
        found = [not heads for heads in self.kv_heads]
        g.keys.expect("attention.recurrent_layers", found)
        return found

    def rope(self, g: Graph, *, halves: bool) -> Rope:
        """Rotary embedding of all heads; halves: value i is paired with the one half a head away."""
        return Rope.read(g.keys, self.key_length, halves=halves)

    def local_rope(self, g: Graph, rope: Rope, default: float) -> Rope:
        """`rope` for layers with a window: with a base of their own, or `default`."""
        g.keys.expect("rope.dimension_count_swa", rope.dimensions)
        return replace(rope, base=g.keys.number("rope.freq_base_swa", default, above=1.0))


def qkv(layer: Layer, h: Value, shape: Shape) -> tuple[Value, Value, Value]:
    """Queries, keys and values, (heads, n) each, of three matrices or one; limited if the file says so."""
    heads, kv_heads = shape.heads[layer.index], shape.kv_heads[layer.index]
    sizes = heads * shape.key_length, kv_heads * shape.key_length, kv_heads * shape.value_length
    names = ("attn_q", "attn_k", "attn_v")
    if not any(layer.has(f"{name}.weight") for name in names):
        q, k, v = layer.linear(h, "attn_qkv", outputs=sum(sizes)).split(*sizes)
    else:
        q, k, v = (layer.linear(h, name, outputs=n) for name, n in zip(names, sizes, strict=True))
    limit = layer.keys.number("attention.clamp_kqv", 0.0)
    if limit:
        q, k, v = (layer.clamp(each, -limit, limit) for each in (q, k, v))
    return (
        q.view(heads, shape.key_length),
        k.view(kv_heads, shape.key_length),
        v.view(kv_heads, shape.value_length),
    )


def attend(
    layer: Layer,
    h: Value,
    shape: Shape,
    rope: Rope | None,
    *,
    norms: Size | None = None,
    factors: str | None = None,
    window: int | None = None,
    scale: float | None = None,
    softcap: float = 0.0,
    sinks: str | None = None,
    max_bias: float = 0.0,
    causal: bool = True,
) -> Value:
    """Attention from inputs to outputs: norms of the heads of q and k, or none; RoPE, or none; attn_output.

    factors: a tensor that may divide RoPE's angles. causal, max_bias: where the file does not say. The others
    are those of `Graph.keep` and `Graph.attention`.
    """
    causal = layer.keys.flag("attention.causal", causal)
    max_bias = layer.keys.number("attention.max_alibi_bias", max_bias)
    q, k, v = qkv(layer, h, shape)
    if norms:
        q, k = (norm_of_heads(layer, y, n, norms) for y, n in ((q, "attn_q_norm"), (k, "attn_k_norm")))
    if rope:
        q, k = (layer.rope(y, rope, factors) for y in (q, k))
    kept = layer.keep(k, v, window)
    y = layer.attention(q, kept, scale=scale, softcap=softcap, sinks=sinks, max_bias=max_bias, causal=causal)
    return layer.linear(y.flat(), "attn_output", outputs=shape.width)


def norm_of_heads(layer: Layer, y: Value, name: str, size: Size) -> Value:
    """Norm of each head of y, or of all together if `name` has so many weights."""
    together = layer.shape(f"{name}.weight") == (y.width,)
    return layer.norm(y.flat() if together else y, name, size=size).view(*y.shape)


def gated(layer: Layer, h: Value, function: Function, suffix: str = "", inner: int | None = None) -> Value:
    """Feed-forward network: down(function(gate) * up); gate and up may be one matrix, named up.

    suffix: of the tensors' names, "_shexp" for an expert that all tokens share. inner: its width, None for
    what the file says.
    """
    inner = inner or _if_said(layer, "expert_shared_feed_forward_length" if suffix else "feed_forward_length")
    wide, narrow = layer.shape(f"ffn_up{suffix}.weight")[0], layer.shape(f"ffn_down{suffix}.weight")[-1]
    both = wide != inner if inner else wide == 2 * narrow
    if both and not layer.has(f"ffn_gate{suffix}.weight"):
        inner = inner or narrow
        gate, up = layer.linear(h, f"ffn_up{suffix}", outputs=2 * inner).split(inner, inner)
    else:
        gate, up = (layer.linear(h, name + suffix, outputs=inner) for name in ("ffn_gate", "ffn_up"))
    return layer.linear(gate.apply(function) * up, f"ffn_down{suffix}", outputs=h.width)


def shared_expert(layer: Layer, h: Value) -> Value:
    """The expert that all tokens share, times sigmoid(ffn_gate_inp_shexp h), one value."""
    name = "ffn_gate_inp_shexp.weight"
    layer.tensor(name, *(1,) * (len(layer.shape(name)) - 1), h.width)  # one row, or a vector
    return gated(layer, h, "silu", "_shexp") * added(layer, layer.vector(h, "mul", name)).apply("sigmoid")


def added(g: Graph, x: Value) -> Value:
    """The sum of all values, (1,); in two steps, which errs less than one."""
    part = math.gcd(x.width, 64)
    return g.total(g.total(x.view(x.width // part, part)).view(part, 1))


def plain(layer: Layer, h: Value, function: Function, suffix: str = "") -> Value:
    """Feed-forward network without a gate: down(function(up)); suffix as in `gated`."""
    inner = _if_said(layer, "expert_shared_feed_forward_length" if suffix else "feed_forward_length")
    up = layer.linear(h, f"ffn_up{suffix}", outputs=inner).apply(function)
    return layer.linear(up, f"ffn_down{suffix}", outputs=h.width)


def _if_said(layer: Layer, key: str) -> int | None:
    """A size of this layer, None where the file does not say."""
    if not layer.keys.has(key):
        return None
    return layer.keys.integers(key, layer.index + 1, least=0)[layer.index] or None


def windows(g: Graph, shape: Shape, *, every: int, usual: int = 0, first: bool = False) -> list[int | None]:
    """The window of each layer, None where it attends to all.

    every: each so manieth layer attends to all, where the file does not say which do; 0: none has a window.
    first: of each such number it is the first.
    usual: the window where the file does not say; 0: there is none.
    """
    k = g.keys
    window = k.integer("attention.sliding_window", usual, least=0)
    local = k.pattern("attention.sliding_window_pattern", shape.layers, every, first=first)
    k.expect("attention.key_length_swa", shape.key_length)
    k.expect("attention.value_length_swa", shape.value_length)
    return [window if window and is_local else None for is_local in local]


def swiglu(gate: Value, up: Value) -> Value:
    """silu(gate) * up."""
    return gate.apply("silu") * up


Gating = Literal["softmax", "sigmoid", "chosen", "sparsemixer"]

# expert_gating_func; 0 where the architecture decides. Source: llama.cpp llama-hparams.h.
_GATINGS: tuple[Gating | None, ...] = (None, "softmax", "sigmoid", "chosen")


def choose(layer: Layer, h: Value, *, gating: Gating = "softmax", normalize: bool = False) -> Experts:
    """The experts of each token, by ffn_gate_inp; gating, normalize: where the file does not say."""
    k = layer.keys
    count = k.integer("expert_count", most=1 << 16)
    used = k.integer("expert_used_count", most=count)
    groups = k.integer("expert_group_count", 0, least=0, most=count) or 1
    said = _GATINGS[k.integer("expert_gating_func", 0, least=0, most=len(_GATINGS) - 1)]
    return layer.route(
        layer.linear(h, "ffn_gate_inp", outputs=count),
        used,
        gating=said or gating,
        # A key of our own.
        jitter=k.number("expert_router_jitter") if gating == "sparsemixer" else 0.0,
        normalize=k.flag("expert_weights_norm", normalize),
        scale=k.number("expert_weights_scale", 1.0) or 1.0,
        bias="exp_probs_b.bias",
        groups=groups,
        groups_used=k.integer("expert_group_used_count", 0, least=0, most=groups) or 1,
        group_best=k.integer("expert_group_best_count", 2, most=2),  # a key of our own, for DeepSeek V2
    )


def experts(
    layer: Layer,
    h: Value,
    activate: Callable[[Value, Value], Value],
    *,
    gating: Gating = "softmax",
    normalize: bool = False,
    by: Value | None = None,
) -> Value:
    """Mixture of experts: the weighted sum of down(activate(gate, up)) over the experts of each token.

    by: what chooses them, None for h.
    """
    inner = _if_said(layer, "expert_feed_forward_length")
    chosen = choose(layer, by or h, gating=gating, normalize=normalize)
    if layer.has("ffn_gate_up_exps.weight"):
        both = layer.linear_of_experts(h, "ffn_gate_up_exps", chosen, outputs=inner and 2 * inner)
        gate, up = both.split(both.shape[-1] // 2, both.shape[-1] // 2)
    else:
        names = ("ffn_gate_exps", "ffn_up_exps")
        gate, up = (layer.linear_of_experts(h, name, chosen, outputs=inner) for name in names)
    y = layer.linear_of_experts(activate(gate, up), "ffn_down_exps", chosen, outputs=h.width)
    return layer.total(y * chosen.weights)


def head(
    g: Graph,
    x: Value,
    size: Size = "rms",
    *,
    scale: float = 1.0,
    norm: str = "output_norm",
    shares: bool = False,
    softcap: float = 0.0,
) -> Outputs:
    """The last norm, whose result is the embeddings, and the output, which may be the input's tensor.

    size: of the norm. scale: of the logits. shares: as for `pooled`. softcap: what limits logits, where
    `final_logit_softcapping` does not say it.
    """
    x = g.norm(x, norm, size=size)
    logits = g.linear(x, "output", tied="token_embd")
    if scale != 1.0:
        logits = logits * scale
    cap = g.keys.number("final_logit_softcapping", softcap)
    if cap:
        logits = (logits * (1 / cap)).apply("tanh") * cap
    return {"logits": logits, "embeddings": pooled(g, x, shares=shares)}

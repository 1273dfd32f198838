"""MiniMax M2: norms of q and k over all heads, RoPE of a part of each, experts chosen with a bias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ggufpy.architectures import llama, qwen2
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    expert_keys,
    head_size,
    rms_epsilon,
    sizes,
)
from ggufpy.architectures._decoder import Shape, experts, head, qkv, swiglu
from ggufpy.architectures._names import Names, tensor
from ggufpy.architectures._rope_keys import partial_rope, rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Layer, Outputs, Value
from ggufpy.graph.rope import Rope

HF_CLASSES = ("MiniMaxM2ForCausalLM",)

_DENSE = ("ffn_gate", "ffn_up", "ffn_down")

NAMES: Names = {
    **{name: theirs for name, theirs in qwen2.NAMES.items() if not name.endswith(_DENSE)},
    **{name: theirs for name, theirs in llama.NAMES.items() if name.endswith(("_exps", "_inp"))},
    "blk.{i}.exp_probs_b.bias": tensor("model.layers.{i}.block_sparse_moe.e_score_correction_bias"),
    "blk.{i}.attn_q_norm": "model.layers.{i}.self_attn.q_norm",
    "blk.{i}.attn_k_norm": "model.layers.{i}.self_attn.k_norm",
}

_SIGMOID = 2


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; that experts are chosen by sigmoid, the class implies."""
    check_supported(
        config,
        "MiniMax M2",
        hidden_act=("silu", "swish"),
        scoring_func=("sigmoid",),
        use_qk_norm=(True,),
        qk_norm_type=("per_layer",),
    )
    rope = rope_parameters(config, 5e6)
    return {
        **sizes(config),
        **_turning(config, rope),
        **rope_base(rope),
        **rope_scaling(config, rope, "MiniMax M2"),
        **rms_epsilon(config),
        **expert_keys(config, "intermediate_size"),
        "expert_gating_func": _SIGMOID,
    }


def _turning(config: Config, rope: Mapping[str, Any]) -> Metadata:
    """How many values of a head turn: a part of them, or, as released, so many."""
    size = head_size(config)
    if config.get("rotary_dim") is not None and rope.get("partial_rotary_factor") is None:
        return {"rope.dimension_count": count(config, "rotary_dim", most=size)}
    return partial_rope(config, rope, size, 1.0)


def forward(g: Graph) -> Outputs:
    """Experts in each layer, whose weights sum to 1."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        x = x + _attend(layer, layer.norm(x, "attn_norm"), shape, rope)
        x = x + experts(layer, layer.norm(x, "ffn_norm"), swiglu, gating="sigmoid", normalize=True)
    return head(g, x)


def _attend(layer: Layer, h: Value, shape: Shape, rope: Rope) -> Value:
    q, k, v = qkv(layer, h, shape)
    q, k = (
        layer.rope(layer.norm(y.flat(), name).view(*y.shape), rope)
        for y, name in ((q, "attn_q_norm"), (k, "attn_k_norm"))
    )
    return layer.linear(layer.attention(q, layer.keep(k, v)).flat(), "attn_output", outputs=shape.width)

"""GLM-4.5 and on: experts chosen with a bias, one that all tokens share, first layers without."""

from __future__ import annotations

from ggufpy.architectures import glm4, qwen2, qwen3moe
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    flag,
    number,
    with_predicting_layers,
)
from ggufpy.architectures._decoder import Shape, attend, experts, gated, head, swiglu
from ggufpy.architectures._names import Names, tensor
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES = ("Glm4MoeForCausalLM",)

_LAYER = "model.layers.{i}."
_SHARED = _LAYER + "mlp.shared_experts."

NAMES: Names = {
    **{n.replace("ffn_norm", "post_attention_norm"): theirs for n, theirs in qwen2.NAMES.items()},
    **qwen3moe.EXPERTS,
    "blk.{i}.exp_probs_b.bias": tensor(_LAYER + "mlp.gate.e_score_correction_bias"),
    "blk.{i}.ffn_gate_shexp": _SHARED + "gate_proj",
    "blk.{i}.ffn_up_shexp": _SHARED + "up_proj",
    "blk.{i}.ffn_down_shexp": _SHARED + "down_proj",
    "blk.{i}.attn_q_norm": _LAYER + "self_attn.q_norm",
    "blk.{i}.attn_k_norm": _LAYER + "self_attn.k_norm",
    # Layers that predict tokens after the next one.
    "blk.{i}.nextn.eh_proj": _LAYER + "eh_proj",
    "blk.{i}.nextn.embed_tokens": _LAYER + "embed_tokens",
    "blk.{i}.nextn.enorm": _LAYER + "enorm",
    "blk.{i}.nextn.hnorm": _LAYER + "hnorm",
    "blk.{i}.nextn.shared_head_head": _LAYER + "shared_head.head",
    "blk.{i}.nextn.shared_head_norm": _LAYER + "shared_head.norm",
}

_SIGMOID = 2


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; that experts are chosen by sigmoid, the class implies."""
    check_supported(config, "GLM-4 MoE", scoring_func=("sigmoid",), n_group=(1,), topk_group=(1,))
    keys = {
        **glm4.hyperparameters(config, "GLM-4 MoE"),
        "expert_count": count(config, "n_routed_experts", most=1024),
        "expert_used_count": count(config, "num_experts_per_tok"),
        "expert_shared_count": count(config, "n_shared_experts"),
        "expert_feed_forward_length": count(config, "moe_intermediate_size"),
        "expert_gating_func": _SIGMOID,
        "expert_weights_scale": number(config, "routed_scaling_factor", 1.0),
        "expert_weights_norm": flag(config, "norm_topk_prob", True),
        "leading_dense_block_count": count(config, "first_k_dense_replace", 1),
    }
    return with_predicting_layers(config, keys)


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer; larger models have norms of the heads of q and k."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        norms = layer.has("attn_q_norm.weight") or layer.has("attn_k_norm.weight")
        x = x + attend(layer, layer.norm(x, "attn_norm"), shape, rope, norms="rms" if norms else None)
        x = x + network(layer, layer.norm(x, "post_attention_norm"))
    return head(g, x)


def network(layer: Layer, h: Value) -> Value:
    """The first layers' feed-forward network; experts and shared ones in others."""
    k = layer.keys
    if layer.index < k.integer("leading_dense_block_count", 0, least=0):
        return gated(layer, h, "silu")
    inner = k.integer("expert_shared_count", 0, least=0) * k.integer("expert_feed_forward_length")
    y = experts(layer, h, swiglu, gating="sigmoid")
    return y + gated(layer, h, "silu", "_shexp", inner) if inner else y

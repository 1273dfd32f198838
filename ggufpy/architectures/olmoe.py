"""OLMoE: norms of all queries and of all keys, experts in place of the feed-forward network."""

from __future__ import annotations

from ggufpy.architectures import qwen2, qwen3moe
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    expert_keys,
    flag,
    head_size,
    rms_epsilon,
    sizes,
)
from ggufpy.architectures._decoder import Shape, attend, experts, head, swiglu
from ggufpy.architectures._names import Names
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("OlmoeForCausalLM",)

NAMES: Names = {
    **{name: theirs for name, theirs in qwen2.NAMES.items() if "ffn_" not in name or "norm" in name},
    "blk.{i}.attn_q_norm": "model.layers.{i}.self_attn.q_norm",
    "blk.{i}.attn_k_norm": "model.layers.{i}.self_attn.k_norm",
    **qwen3moe.EXPERTS,
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys, which cannot say that values are limited behind their norms."""
    check_supported(config, "OLMoE", hidden_act=("silu", "swish"), clip_qkv=(), norm_topk_prob=(True, False))
    rope = rope_parameters(config)
    keys = {
        **sizes(config),
        "rope.dimension_count": head_size(config),
        **rope_base(rope),
        **rope_scaling(config, rope, "OLMoE"),
        **rms_epsilon(config, 1e-5),
        **expert_keys(config, "intermediate_size"),
        "vocab_size": count(config, "vocab_size"),
    }
    return {**keys, "expert_weights_norm": True} if flag(config, "norm_topk_prob") else keys


def forward(g: Graph) -> Outputs:
    """Pre-norm; the weights of experts are as the softmax of all has them."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        h = layer.norm(x, "attn_norm")
        x = x + attend(layer, h, shape, rope, norms="rms")
        x = x + experts(layer, layer.norm(x, "ffn_norm"), swiglu)
    return head(g, x)

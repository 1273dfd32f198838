"""DeepSeek V2 and V3, and GLM 4.7 Flash: latent attention; experts, shared ones, first layers without."""

from __future__ import annotations

from ggufpy.architectures import glm4moe
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    class_of,
    count,
    flag,
    kinds_of_layers,
    layer_count,
    number,
    rms_epsilon,
    sizes,
    with_predicting_layers,
)
from ggufpy.architectures._decoder import Shape, experts, gated, head, swiglu
from ggufpy.architectures._latent import LATENT, Latent, attend_latent, latent_sizes, latent_yarn
from ggufpy.architectures._names import Names
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.errors import UnsupportedModelError
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES = (
    "DeepseekV2ForCausalLM",
    "DeepseekV3ForCausalLM",
    "Glm4MoeLiteForCausalLM",
    "KimiVLForConditionalGeneration",
    "KimiK25ForConditionalGeneration",
)

NAMES: Names = {
    **{
        name.replace("post_attention_norm", "ffn_norm"): theirs
        for name, theirs in glm4moe.NAMES.items()
        if "attn" not in name
    },
    "blk.{i}.attn_norm": "model.layers.{i}.input_layernorm",
    **LATENT,
}

_SOFTMAX, _SIGMOID = 1, 2
_IN_GROUPS = "group_limited_greedy"


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; how experts are chosen, the class implies."""
    is_v2 = class_of(config).startswith("DeepseekV2")
    if not is_v2:
        check_supported(config, "DeepSeek", scoring_func=("sigmoid",), topk_method=("noaux_tc",))
        return hyperparameters(config, "DeepSeek", _SIGMOID)
    supported = {"scoring_func": ("softmax",), "topk_method": ("greedy", _IN_GROUPS)}
    check_supported(config, "DeepSeek V2", norm_topk_prob=(False,), **supported)
    config = {**config, "norm_topk_prob": False}  # whose weights never sum to 1
    if config.get("topk_method") != _IN_GROUPS:
        return hyperparameters({**config, "n_group": 1, "topk_group": 1}, "DeepSeek V2", _SOFTMAX)
    return {**hyperparameters(config, "DeepSeek V2", _SOFTMAX), "expert_group_best_count": 1}


def hyperparameters(config: Config, model: str, gating: int) -> Metadata:
    """Keys of all models with this attention; gating: `expert_gating_func`."""
    supported = {"hidden_act": ("silu", "swish"), "rope_interleave": (True,), "moe_layer_freq": (1,)}
    check_supported(config, model, **supported)
    rope = rope_parameters(config)
    is_yarn = rope["rope_type"] == "yarn"
    keys: Metadata = {
        **sizes({**config, "head_dim": count(config, "qk_rope_head_dim")}),
        **latent_sizes(config),
        **rope_base(rope),
        **(latent_yarn(config, rope, model) if is_yarn else rope_scaling(config, rope, model)),
        **rms_epsilon(config),
        "vocab_size": count(config, "vocab_size"),
        "leading_dense_block_count": _dense(config),
        "expert_count": count(config, "n_routed_experts", most=1024),
        "expert_used_count": count(config, "num_experts_per_tok"),
        "expert_shared_count": count(config, "n_shared_experts"),
        "expert_feed_forward_length": count(config, "moe_intermediate_size"),
        "expert_gating_func": gating,
        "expert_weights_scale": number(config, "routed_scaling_factor", 1.0),
        "expert_weights_norm": flag(config, "norm_topk_prob", True),
    }
    if config.get("n_group") is not None:
        keys["expert_group_count"] = count(config, "n_group")
        keys["expert_group_used_count"] = count(config, "topk_group", 1)
    return with_predicting_layers(config, keys)


def _dense(config: Config) -> int:
    """How many first layers have no experts, in both spellings."""
    if config.get("mlp_layer_types") is None:
        first = config.get("first_k_dense_replace") or 0
        return count({"first_k_dense_replace": first}, "first_k_dense_replace") if first else 0
    sparse = kinds_of_layers(config, {"dense": False, "sparse": True}, "mlp_layer_types")
    if sparse != sorted(sparse):
        raise UnsupportedModelError("config.json: mlp_layer_types has dense layers behind sparse ones")
    return layer_count(config) - sum(sparse)


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer."""
    shape, sizes = Shape.read(g), Latent.read(g)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        x = x + attend_latent(layer, layer.norm(x, "attn_norm"), shape, sizes)
        x = x + _network(layer, layer.norm(x, "ffn_norm"))
    return head(g, x)


def _network(layer: Layer, h: Value) -> Value:
    k = layer.keys
    if layer.index < k.integer("leading_dense_block_count", 0, least=0):
        return gated(layer, h, "silu")
    inner = k.integer("expert_shared_count", 0, least=0) * k.integer("expert_feed_forward_length")
    y = experts(layer, h, swiglu)
    return y + gated(layer, h, "silu", "_shexp", inner) if inner else y

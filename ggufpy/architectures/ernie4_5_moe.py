"""ERNIE 4.5 with experts, chosen with a bias, and shared ones, in some layers."""

from __future__ import annotations

from ggufpy.architectures import ernie4_5, qwen2
from ggufpy.architectures._conversion import Config, Metadata, check_supported, count, layer_count
from ggufpy.architectures._decoder import Shape, attend, experts, gated, head, swiglu
from ggufpy.architectures._names import Names, reshaped, stack, tensor
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("Ernie4_5_MoeForCausalLM", "Ernie4_5_MoEForCausalLM")

_MLP = "model.layers.{i}.mlp"

NAMES: Names = {
    **qwen2.NAMES,
    "blk.{i}.ffn_gate_inp": _MLP + ".gate",
    "blk.{i}.ffn_gate_exps": stack(_MLP + ".experts.{e}.gate_proj"),
    "blk.{i}.ffn_up_exps": stack(_MLP + ".experts.{e}.up_proj"),
    "blk.{i}.ffn_down_exps": stack(_MLP + ".experts.{e}.down_proj"),
    "blk.{i}.ffn_gate_shexp": _MLP + ".shared_experts.gate_proj",
    "blk.{i}.ffn_up_shexp": _MLP + ".shared_experts.up_proj",
    "blk.{i}.ffn_down_shexp": _MLP + ".shared_experts.down_proj",
    "blk.{i}.exp_probs_b.bias": reshaped(
        tensor(_MLP + ".moe_statics.e_score_correction_bias"), lambda place: (place.count("expert_count"),)
    ),
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys, which cannot say that experts end before the last layer."""
    last = layer_count(config) - 1
    check_supported(
        config, "ERNIE 4.5 MoE", moe_gate=("topk",), moe_use_aux_free=(True,), moe_layer_end_index=(-1, last)
    )
    start = config.get("moe_layer_start_index") or 0
    if start:
        start = count(config, "moe_layer_start_index")
    inner = count(config, "moe_intermediate_size")
    keys: Metadata = {
        **ernie4_5.hyperparameters(config, "ERNIE 4.5 MoE"),
        "expert_count": count(config, "moe_num_experts", most=1024),
        "expert_used_count": count(config, "moe_k"),
        "expert_feed_forward_length": inner,
        "interleave_moe_layer_step": count(config, "moe_layer_interval", 1),
        "leading_dense_block_count": start,
    }
    if config.get("moe_num_shared_experts"):
        keys["expert_shared_feed_forward_length"] = inner * count(config, "moe_num_shared_experts")
    return keys


def forward(g: Graph) -> Outputs:
    """ERNIE's attention; experts whose weights sum to 1, and the shared ones, where a layer has them."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=False)
    step = g.keys.integer("interleave_moe_layer_step", 1)
    dense = g.keys.integer("leading_dense_block_count", 0, least=0)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        x = x + attend(layer, layer.norm(x, "attn_norm"), shape, rope)
        h = layer.norm(x, "ffn_norm")
        if layer.index < dense or (layer.index + 1) % step:
            x = x + gated(layer, h, "silu")
            continue
        x = x + experts(layer, h, swiglu, normalize=True)
        if g.keys.has("expert_shared_feed_forward_length"):
            x = x + gated(layer, h, "silu", "_shexp")
    return head(g, x)

"""LFM2 with experts, chosen with a bias, but for the first layers."""

from __future__ import annotations

from ggufpy.architectures import lfm2
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    expert_keys,
    number,
    with_defaults,
)
from ggufpy.architectures._names import Names, stack, tensor

HF_CLASSES = ("Lfm2MoeForCausalLM",)

_MLP = "model.layers.{i}.feed_forward"

NAMES: Names = {
    **lfm2.NAMES,
    "blk.{i}.ffn_gate_inp": _MLP + ".gate",
    "blk.{i}.ffn_gate_exps": stack(_MLP + ".experts.{e}.w1"),
    "blk.{i}.ffn_up_exps": stack(_MLP + ".experts.{e}.w3"),
    "blk.{i}.ffn_down_exps": stack(_MLP + ".experts.{e}.w2"),
    "blk.{i}.exp_probs_b.bias": tensor(_MLP + ".expert_bias"),
}

forward = lfm2.forward

SIGMOID = 2


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    config = with_defaults(config, norm_topk_prob=True, num_dense_layers=2, num_experts_per_tok=4)
    check_supported(config, "LFM2-MoE", norm_topk_prob=(True, False))
    keys: Metadata = {
        **lfm2.hyperparameters(config, "LFM2-MoE"),
        "feed_forward_length": count(config, "intermediate_size"),
        **expert_keys(config, "moe_intermediate_size"),
        "leading_dense_block_count": count(config, "num_dense_layers") if config["num_dense_layers"] else 0,
        "expert_gating_func": SIGMOID,
    }
    if not config["norm_topk_prob"]:
        keys["expert_weights_norm"] = False
    scale = number(config, "routed_scaling_factor", 1.0)
    return {**keys, "expert_weights_scale": scale} if scale != 1.0 else keys

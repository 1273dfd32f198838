"""Granite with experts in place of the feed-forward network, and one that all tokens share in some models."""

from __future__ import annotations

from ggufpy.architectures import granite
from ggufpy.architectures._conversion import Config, Metadata, count
from ggufpy.architectures._names import Names

HF_CLASSES = ("GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM", "GraniteMoeHybridForCausalLM")

_EXPERTS = granite.fused("model.layers.{i}.block_sparse_moe", "feed_forward_length")
_SHARED = granite.fused("model.layers.{i}.shared_mlp", "expert_shared_feed_forward_length")

NAMES: Names = {
    **{name: theirs for name, theirs in granite.NAMES.items() if "ffn_" not in name or "norm" in name},
    "blk.{i}.ffn_gate_inp": "model.layers.{i}.block_sparse_moe.router.layer",
    **{f"blk.{{i}}.ffn_{part}_exps": theirs for part, theirs in _EXPERTS.items()},
    **{f"blk.{{i}}.ffn_{part}_shexp": theirs for part, theirs in _SHARED.items()},
}

forward = granite.forward


def covers(config: Config) -> bool:
    """Hybrid models that are no hybrids, with experts, are these."""
    is_hybrid = config.get("model_type") == "granitemoehybrid"
    return not is_hybrid or bool(granite.attends_only(config) and config.get("num_local_experts"))


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    return {
        **granite.hyperparameters(config, "Granite MoE"),
        **granite.of_hybrids(config),
        **sizes_of_experts(config),
    }


def sizes_of_experts(config: Config) -> Metadata:
    """Keys of experts; feed_forward_length is theirs."""
    keys: Metadata = {
        "expert_count": count(config, "num_local_experts", most=1024),
        "expert_used_count": count(config, "num_experts_per_tok"),
    }
    if config.get("shared_intermediate_size"):
        keys["expert_shared_feed_forward_length"] = count(config, "shared_intermediate_size")
    return keys

"""Granite 4 and Bamba: layers of Mamba 2 and layers with attention, whose networks may have experts."""

from __future__ import annotations

from ggufpy.architectures import granite, granitemoe, mamba2
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    head_size,
    kinds_of_layers,
    listed_layers,
    rms_epsilon,
    sizes,
)
from ggufpy.architectures._names import Names, Place, Way, pairs, when
from ggufpy.architectures._rope_keys import partial_rope, rope_base, rope_parameters, rope_scaling

HF_CLASSES = ("GraniteMoeHybridForCausalLM", "BambaForCausalLM")

_LAYER = "model.layers.{i}"


def _has_experts(place: Place) -> bool:
    return "expert_count" in place.keys


NAMES: Names = {
    **granite.NAMES,
    "blk.{i}.attn_q": pairs(_LAYER + ".self_attn.q_proj", "attention.head_count", "rope.dimension_count"),
    "blk.{i}.attn_k": pairs(_LAYER + ".self_attn.k_proj", "attention.head_count_kv", "rope.dimension_count"),
    **{
        name: when(_has_experts, theirs)
        for name, theirs in granitemoe.NAMES.items()
        if isinstance(theirs, str | Way) and ("exp" in name or "inp" in name)
    },
    **mamba2.of_mixer(_LAYER + ".mamba"),
    "blk.{i}.ffn_norm": (_LAYER + ".post_attention_layernorm", _LAYER + ".pre_ff_layernorm"),
    **{
        f"blk.{{i}}.ffn_{part}": (
            when(lambda place: not _has_experts(place), granite.SHARED[part]),
            f"{_LAYER}.feed_forward.{part}_proj",
        )
        for part in ("gate", "up", "down")
    },
    "output_norm": ("model.norm", "model.final_layernorm"),
}

forward = granite.forward


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    keys = _of_bamba(config) if config.get("model_type") == "bamba" else _of_granite(config)
    keys |= mamba2.keys_of_hybrid(config, "Granite 4")
    kv_heads = count(config, "num_key_value_heads", count(config, "num_attention_heads"))
    keys["attention.head_count_kv"] = [kv_heads if attends else 0 for attends in _attends(config)]
    if not keys[granite.TURNS]:
        keys["context_length"] = 1 << 20  # there is no limit
    return keys


def _of_granite(config: Config) -> Metadata:
    keys = {**granite.hyperparameters(config, "Granite 4"), **granite.of_hybrids(config)}
    return {**keys, **granitemoe.sizes_of_experts(config)} if config.get("num_local_experts") else keys


def _of_bamba(config: Config) -> Metadata:
    check_supported(config, "Bamba", hidden_act=("silu", "swish"))
    rope = rope_parameters(config)
    return {
        **sizes(config),
        **partial_rope(config, rope, head_size(config), 0.5),
        **rope_base(rope),
        **rope_scaling(config, rope, "Bamba"),
        **rms_epsilon(config, 1e-5),
        granite.TURNS: True,
        "vocab_size": count(config, "vocab_size"),
    }


def _attends(config: Config) -> list[bool]:
    """Which layers have attention."""
    if config.get("layer_types") is None:
        return listed_layers(config, "attn_layer_indices")
    kinds = {"mamba": False, "linear_attention": False, "attention": True, "full_attention": True}
    return kinds_of_layers(config, kinds)

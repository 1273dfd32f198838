"""Gemma 4: Gemma 3 with larger heads in layers without a window; inputs of layers' own, or experts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.architectures import _per_layer
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    flag,
    kinds_of_layers,
    layer_count,
    number,
    rms_epsilon,
    sizes,
)
from ggufpy.architectures._decoder import Shape, experts, gated, head
from ggufpy.architectures._names import Names, constant, tensor
from ggufpy.architectures._per_layer import LAYER, Kind, Sharing, inputs_of_layers, of_input
from ggufpy.architectures._rope_keys import rope_of_kinds, ropes_by_kind
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES = (
    *("Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"),
    *("Gemma4UnifiedForCausalLM", "Gemma4UnifiedForConditionalGeneration"),
)

# What checkpoints leave out. Source: transformers configuration_gemma4.py.
_DEFAULTS: dict[str, Any] = {
    "num_key_value_heads": 4,
    "head_dim": 256,
    "global_head_dim": 512,
    "num_kv_shared_layers": 0,
    "sliding_window": 512,
    "rope_parameters": {
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25},
        "sliding_attention": {"rope_type": "default"},
    },
}
_EVERY = 6  # of so many layers one attends to all, where nothing is said
_NEVER = 1e30  # divides the angles of pairs that do not turn


def _complete(given: Config) -> dict[str, Any]:
    """With defaults; the last layer attends to all, whatever is said."""
    config = {**_DEFAULTS, **{key: value for key, value in given.items() if value is not None}}
    layers = layer_count(config)
    kinds = config.get("layer_types") or [
        "sliding_attention" if (layer + 1) % _EVERY else "full_attention" for layer in range(layers)
    ]
    local = kinds_of_layers(
        {**config, "layer_types": kinds}, {"sliding_attention": True, "full_attention": False}
    )
    is_unified = "Unified" in str(given.get("architectures"))
    own = given.get("hidden_size_per_layer_input", 0 if is_unified else 256) or 0
    return {**config, "are_local": [*local[:-1], False], "hidden_size_per_layer_input": own}


def _factors(config: Config) -> NDArray[np.float32]:
    """For layers without a window: the first pairs turn as if all did, the others do not."""
    config = _complete(config)
    rope, _ = ropes_by_kind(config, 1e6, 1e4)
    if rope.get("factor", 1) != 1 and rope["rope_type"] == "proportional":
        raise UnsupportedModelError("config.json: a factor of RoPE scaling 'proportional' in a Gemma 4")
    part = number(rope, "partial_rotary_factor", 1.0) if rope["rope_type"] == "proportional" else 1.0
    pairs = _heads(config)[-1]["head_dim"] // 2
    return np.where(np.arange(pairs) < int(part * pairs), 1, _NEVER).astype(np.float32)


NAMES: Names = {
    **_per_layer.NAMES,
    "rope_freqs.weight": constant(_factors),
    "blk.{i}.layer_output_scale.weight": tensor(LAYER + "layer_scalar"),
    "blk.{i}.ffn_gate_inp": LAYER + "router.proj",
    "blk.{i}.ffn_gate_inp.scale": tensor(LAYER + "router.scale"),
    "blk.{i}.ffn_gate_up_exps.weight": tensor(LAYER + "experts.gate_up_proj"),
    "blk.{i}.ffn_down_exps.weight": tensor(LAYER + "experts.down_proj"),
    "blk.{i}.ffn_down_exps.scale": tensor(LAYER + "router.per_expert_scale"),
    "blk.{i}.post_ffw_norm_1": LAYER + "post_feedforward_layernorm_1",
    "blk.{i}.pre_ffw_norm_2": LAYER + "pre_feedforward_layernorm_2",
    "blk.{i}.post_ffw_norm_2": LAYER + "post_feedforward_layernorm_2",
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; logits that are not limited have 0, as without the key they are limited."""
    cap = config.get("final_logit_softcapping")
    config = _complete(config)
    check_supported(
        config,
        "Gemma 4",
        hidden_activation=("gelu_pytorch_tanh",),
        use_bidirectional_attention=("vision",),  # of images only
    )
    heads, local_size = _heads(config), count(config, "head_dim")
    size, kv_heads = heads[-1]["head_dim"], [each["num_key_value_heads"] for each in heads]
    return {
        **sizes(config),
        **_feed_forward(config),
        "attention.head_count_kv": kv_heads[0] if len(set(kv_heads)) == 1 else kv_heads,
        "attention.key_length": size,
        "attention.value_length": size,
        "attention.key_length_swa": local_size,
        "attention.value_length_swa": local_size,
        **rope_of_kinds(config, "Gemma 4", others=("proportional",)),
        "rope.dimension_count": size,
        "rope.dimension_count_swa": local_size,
        **rms_epsilon(config),
        "attention.sliding_window": count(config, "sliding_window"),
        "attention.sliding_window_pattern": config["are_local"],
        **_per_layer.hyperparameters(config),
        "final_logit_softcapping": 0.0 if cap is None else number(config, "final_logit_softcapping"),
    }


def _heads(config: Config) -> list[dict[str, int]]:
    """The size of each layer's heads, and how many keep keys: in `per_layer_config`, or for all of a kind."""
    names, local = ("head_dim", "num_key_value_heads"), config["are_local"]
    heads = [{name: count(config, name) for name in names} for _ in local]
    given = config.get("per_layer_config")
    if given is None:
        more = {"head_dim": count(config, "global_head_dim")}
        if flag(config, "attention_k_eq_v") and "num_global_key_value_heads" in config:
            more["num_key_value_heads"] = count(config, "num_global_key_value_heads")
        given = {str(layer): more for layer, is_local in enumerate(local) if not is_local}
    if not isinstance(given, dict) or not all(key.isdecimal() and int(key) < len(heads) for key in given):
        raise FormatError(f"config.json: per_layer_config is {given!r:.60}, it must have numbers of layers")
    for layer, changes in given.items():
        for name in changes:
            if name not in names:
                raise UnsupportedModelError(
                    f"config.json: per_layer_config changes {name!r:.40} of a Gemma 4"
                )
        heads[int(layer)] |= {name: count(changes, name) for name in changes}
    wanted = [count(config, "head_dim") if is_local else heads[-1]["head_dim"] for is_local in local]
    if [each["head_dim"] for each in heads] != wanted:
        raise UnsupportedModelError(
            "config.json: per_layer_config has heads of several sizes in layers alike"
        )
    return heads


def _feed_forward(config: Config) -> Metadata:
    """Keys of the feed-forward network, wider in layers that share, and of experts."""
    inner, layers, keys = count(config, "intermediate_size"), layer_count(config), Metadata()
    if flag(config, "use_double_wide_mlp"):
        keeping = layers - count({"n": config["num_kv_shared_layers"] or None}, "n", layers)
        keys["feed_forward_length"] = [inner] * keeping + [2 * inner] * (layers - keeping)
    if flag(config, "enable_moe_block"):
        keys["expert_count"] = count(config, "num_experts", most=1024)
        keys["expert_used_count"] = count(config, "top_k_experts")
        first_name = config.get("expert_intermediate_size")
        keys["expert_feed_forward_length"] = count(config, "moe_intermediate_size", first_name)
    return keys


def forward(g: Graph) -> Outputs:
    """Norms before and after; the last layers look at what others kept."""
    shape, k = Shape.read(g), g.keys
    for key in ("value_length", "value_length_swa"):
        k.expect(f"attention.{key}", k.integer(f"attention.{key.replace('value', 'key')}"))
    full, local = _kinds(g, shape)
    sharing = Sharing(g, shape, 0)
    x = g.embed("token_embd", shape.width, scale=math.sqrt(shape.width))
    own = inputs_of_layers(g, x, shape.layers)
    are_local = k.pattern("attention.sliding_window_pattern", shape.layers, _EVERY)
    for layer, is_local in zip(g.layers(shape.layers), are_local, strict=True):
        y = sharing.attend(layer, layer.norm(x, "attn_norm"), local if is_local else full)
        x = x + layer.norm(y, "post_attention_norm")
        h = gated(layer, layer.norm(x, "ffn_norm"), "gelu")
        if k.integer("expert_count", 0, least=0):
            h = layer.norm(h, "post_ffw_norm_1") + layer.norm(_mixture(layer, x), "post_ffw_norm_2")
        x = x + layer.norm(h, "post_ffw_norm")
        if own:
            x = x + of_input(layer, x, own[layer.index])
        if g.has("blk.0.layer_output_scale.weight"):
            layer.tensor("layer_output_scale.weight", 1)
            x = layer.vector(x, "mul", "layer_output_scale.weight")
    return head(g, x, softcap=30.0)


def _kinds(g: Graph, shape: Shape) -> tuple[Kind, Kind]:
    """Layers without a window, and with one."""
    k, rope = g.keys, shape.rope(g, halves=True)
    size = k.integer("attention.key_length_swa", most=1 << 16)
    turning = k.integer("rope.dimension_count_swa", size, least=2, most=size)
    base = k.number("rope.freq_base_swa", 10000.0, above=1.0)
    local = replace(rope, dimensions=turning, base=base, scaling="none")
    window = k.integer("attention.sliding_window")
    full = Kind(shape.key_length, rope, None, factors="rope_freqs.weight", value_is_key=True)
    return full, Kind(size, local, window)


def _mixture(layer: Layer, x: Value) -> Value:
    """Experts of x with one norm, chosen by x with another."""
    layer.tensor("ffn_gate_inp.scale", x.width)
    layer.tensor("ffn_down_exps.scale", layer.keys.integer("expert_count"))
    if not layer.has("ffn_gate_exps.weight"):
        layer.shape("ffn_gate_up_exps.weight")  # is what is missing, then
    by = layer.vector(layer.norm(x), "mul", "ffn_gate_inp.scale") * (1 / math.sqrt(x.width))
    return experts(layer, layer.norm(x, "pre_ffw_norm_2"), _geglu, normalize=True, by=by)


def _geglu(gate: Value, up: Value) -> Value:
    return gate.apply("gelu") * up

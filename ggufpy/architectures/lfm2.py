"""LFM2: layers of short convolutions, and layers of attention with norms of the heads of q and k."""

from __future__ import annotations

from typing import Any

from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    flag,
    kinds_of_layers,
    layer_count,
    listed_layers,
    number,
    sizes,
    with_defaults,
)
from ggufpy.architectures._decoder import Shape, attend, experts, gated, head, swiglu, windows
from ggufpy.architectures._names import Names, reshaped
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES = ("Lfm2ForCausalLM", "LFM2ForCausalLM")

_LAYER = "model.layers.{i}"

NAMES: Names = {
    "token_embd": "model.embed_tokens",
    "blk.{i}.attn_norm": _LAYER + ".operator_norm",
    "blk.{i}.attn_q": _LAYER + ".self_attn.q_proj",
    "blk.{i}.attn_q_norm": _LAYER + ".self_attn.q_layernorm",
    "blk.{i}.attn_k": _LAYER + ".self_attn.k_proj",
    "blk.{i}.attn_k_norm": _LAYER + ".self_attn.k_layernorm",
    "blk.{i}.attn_v": _LAYER + ".self_attn.v_proj",
    "blk.{i}.attn_output": _LAYER + ".self_attn.out_proj",
    "blk.{i}.shortconv.in_proj": _LAYER + ".conv.in_proj",
    "blk.{i}.shortconv.conv": reshaped(
        _LAYER + ".conv.conv",
        lambda place: (place.count("embedding_length"), place.count("shortconv.l_cache")),
    ),
    "blk.{i}.shortconv.out_proj": _LAYER + ".conv.out_proj",
    "blk.{i}.ffn_norm": _LAYER + ".ffn_norm",
    "blk.{i}.ffn_gate": _LAYER + ".feed_forward.w1",
    "blk.{i}.ffn_up": _LAYER + ".feed_forward.w3",
    "blk.{i}.ffn_down": _LAYER + ".feed_forward.w2",
    "token_embd_norm": "model.embedding_norm",
    "output": "lm_head",
}

# What checkpoints leave out. Source: transformers configuration_lfm2.py.
_DEFAULTS: dict[str, Any] = {
    "block_auto_adjust_ff_dim": True,
    "block_ffn_dim_multiplier": 1.0,
    "block_multiple_of": 256,
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    config = with_defaults(config, **_DEFAULTS)
    # Sizes under their names of the first checkpoints count.
    inner = count(config, "block_ff_dim", config.get("intermediate_size"))
    if flag(config, "block_auto_adjust_ff_dim"):
        step = count(config, "block_multiple_of")
        inner = int(number(config, "block_ffn_dim_multiplier") * (2 * inner // 3))
        inner = -(-inner // step) * step
    return {**hyperparameters(config, "LFM2"), "feed_forward_length": inner}


def hyperparameters(config: Config, model: str) -> Metadata:
    """Keys of all models of this family."""
    check_supported(config, model)
    config = with_defaults(config, conv_L_cache=3)
    if config.get("layer_types"):
        attends = kinds_of_layers(config, {"conv": False, "full_attention": True})
    else:
        attends = listed_layers(config, "full_attn_idxs", range(layer_count(config)))
    kv_heads = count(config, "num_key_value_heads", count(config, "num_attention_heads"))
    rope = rope_parameters(config, 1e6)
    return {
        **sizes(config, inner=None),
        "attention.head_count_kv": [kv_heads if each else 0 for each in attends],
        **rope_base(rope),
        **rope_scaling(config, rope, model),
        "attention.layer_norm_rms_epsilon": number(config, "norm_eps", 1e-5),
        "shortconv.l_cache": count(config, "conv_L_cache"),
        "vocab_size": count(config, "vocab_size"),
    }


def forward(g: Graph) -> Outputs:
    """Pre-norm; after the first layers there are experts, if the file has any. All windows are one."""
    k = g.keys
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    dense = k.integer("leading_dense_block_count", 0, least=0, most=shape.layers)
    has_experts = k.integer("expert_count", 0, least=0) > 0
    k.expect("attention.causal", True)  # convolutions look back only
    x = g.embed("token_embd", shape.width)
    local = windows(g, shape, every=shape.layers + 1)
    rope = shape.local_rope(g, rope, rope.base) if any(local) else rope
    kinds = zip(g.layers(shape.layers), shape.recurrent(g), local, strict=True)
    for layer, is_recurrent, window in kinds:
        h = layer.norm(x, "attn_norm")
        if is_recurrent:
            x = x + _convolve(layer, h)
        else:
            x = x + attend(layer, h, shape, rope, norms="rms", window=window)
        h = layer.norm(x, "ffn_norm")
        if has_experts and layer.index >= dense:
            x = x + experts(layer, h, swiglu, gating="sigmoid", normalize=True)
        else:
            x = x + gated(layer, h, "silu")
    return head(g, x, norm="token_embd_norm")


def _convolve(layer: Layer, h: Value) -> Value:
    """What goes into the convolution, and what comes out of it, is multiplied with gates."""
    width = h.width
    layer.tensor("shortconv.conv.weight", width, layer.keys.integer("shortconv.l_cache"))
    before, after, x = layer.linear(h, "shortconv.in_proj", outputs=3 * width).split(width, width, width)
    y = layer.conv(before * x, "shortconv.conv") * after
    return layer.linear(y, "shortconv.out_proj", outputs=width)

"""Phi-3 and Phi-4: q, k and v in one matrix, gate and up in another; RoPE with factors for longer texts."""

from __future__ import annotations

from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    head_size,
    rms_epsilon,
    sizes,
)
from ggufpy.architectures._decoder import MOST_LAYERS, Shape, attend, gated, head, windows
from ggufpy.architectures._longrope import FACTORS, factors_of, longrope
from ggufpy.architectures._names import Names
from ggufpy.architectures._rope_keys import partial_rope, rope_base, rope_parameters
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("Phi3ForCausalLM",)

NAMES: Names = {
    **FACTORS,
    "token_embd": "model.embed_tokens",
    "blk.{i}.attn_norm": "model.layers.{i}.input_layernorm",
    "blk.{i}.attn_qkv": "model.layers.{i}.self_attn.qkv_proj",
    "blk.{i}.attn_output": "model.layers.{i}.self_attn.o_proj",
    "blk.{i}.ffn_norm": "model.layers.{i}.post_attention_layernorm",
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.gate_up_proj",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.down_proj",
    "output_norm": "model.norm",
    "output": "lm_head",
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; llama.cpp reads all but the window."""
    check_supported(config, "Phi-3", hidden_act=("silu", "swish"))
    rope = rope_parameters(config)
    return {
        **hyperparameters(config),
        **partial_rope(config, rope, head_size(config), 1.0),
        **longrope(config, rope, "Phi-3"),
    }


def hyperparameters(config: Config) -> Metadata:
    """Keys that Phi's mixtures have, too."""
    window = config.get("sliding_window")
    return {
        **sizes(config),
        **rope_base(rope_parameters(config)),
        **rms_epsilon(config, 1e-5),
        "attention.sliding_window": 0 if window is None else count(config, "sliding_window"),
        "vocab_size": count(config, "vocab_size"),
    }


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer; no layer, or each, looks back a window only."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    factors = factors_of(g, rope)
    x = g.embed("token_embd", shape.width)
    for layer, window in zip(g.layers(shape.layers), windows(g, shape, every=MOST_LAYERS + 1), strict=True):
        h = layer.norm(x, "attn_norm")
        x = x + attend(layer, h, shape, rope, factors=factors, window=window)
        x = x + gated(layer, layer.norm(x, "ffn_norm"), "silu")
    return head(g, x)

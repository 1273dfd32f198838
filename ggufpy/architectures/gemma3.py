"""Gemma 3: norms before and after, five layers with a window for one without, GELU, tied output."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    number,
    rms_epsilon,
    sizes,
    windows_of_layers,
)
from ggufpy.architectures._decoder import Shape, attend, gated, head, windows
from ggufpy.architectures._names import Names, Place, plus_one, rows
from ggufpy.architectures._rope_keys import rope_of_kinds
from ggufpy.architectures.gemma2 import read_scale, scale_of_scores
from ggufpy.graph import Graph, Outputs, Value

HF_CLASSES = ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", "Gemma3TextModel")


def _known(place: Place) -> slice:
    """Rows for images follow, which the tokenizer does not know; where their number is not said, they go."""
    return slice(None if place.config.get("vocab_size") else place.tokens)


NAMES: Names = {
    "token_embd": rows("model.embed_tokens", _known),
    "blk.{i}.attn_norm": plus_one("model.layers.{i}.input_layernorm"),
    "blk.{i}.attn_q": "model.layers.{i}.self_attn.q_proj",
    "blk.{i}.attn_q_norm": plus_one("model.layers.{i}.self_attn.q_norm"),
    "blk.{i}.attn_k": "model.layers.{i}.self_attn.k_proj",
    "blk.{i}.attn_k_norm": plus_one("model.layers.{i}.self_attn.k_norm"),
    "blk.{i}.attn_v": "model.layers.{i}.self_attn.v_proj",
    "blk.{i}.attn_output": "model.layers.{i}.self_attn.o_proj",
    "blk.{i}.post_attention_norm": plus_one("model.layers.{i}.post_attention_layernorm"),
    "blk.{i}.ffn_norm": plus_one("model.layers.{i}.pre_feedforward_layernorm"),
    "blk.{i}.ffn_gate": "model.layers.{i}.mlp.gate_proj",
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.up_proj",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.down_proj",
    "blk.{i}.post_ffw_norm": plus_one("model.layers.{i}.post_feedforward_layernorm"),
    "output_norm": plus_one("model.norm"),
    "output": rows("lm_head", _known),
}

# What checkpoints leave out. Source: transformers configuration_gemma3.py.
_DEFAULTS: dict[str, Any] = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}
_EVERY = 6  # of so many layers one attends to all, where nothing is said
_LARGEST = 62  # layers of the model whose scores are scaled another way


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    check_supported(config, "Gemma 3", use_bidirectional_attention=(False,))
    return hyperparameters(config)


def hyperparameters(config: Config) -> Metadata:
    """Keys, whether tokens see later ones or not; layers with a window turn by a base of their own."""
    config = {**_DEFAULTS, **{key: value for key, value in config.items() if value is not None}}
    check_supported(
        config,
        "Gemma 3",
        hidden_activation=("gelu_pytorch_tanh",),
        attn_logit_softcapping=(),
    )
    keys = {
        **sizes(config),
        **rope_of_kinds(config, "Gemma 3"),
        **rms_epsilon(config),
        **windows_of_layers(config, every=_EVERY),
        **scale_of_scores(config, _LARGEST),
    }
    if config.get("final_logit_softcapping"):
        keys["final_logit_softcapping"] = number(config, "final_logit_softcapping")
    return keys


def forward(g: Graph) -> Outputs:
    """All layers, and the head."""
    return head(g, hidden(g, causal=True))


def hidden(g: Graph, *, causal: bool) -> Value:
    """All layers; those with a window turn by a base of their own, and are never scaled.

    causal: no token sees later ones; else a window reaches half of its size ahead and back.
    """
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    local = replace(shape.local_rope(g, rope, 10000.0), scaling="none")
    scale = read_scale(g, shape, _LARGEST)
    x = g.embed("token_embd", shape.width, scale=math.sqrt(shape.width))
    for layer, window in zip(g.layers(shape.layers), windows(g, shape, every=_EVERY), strict=True):
        h = layer.norm(x, "attn_norm")
        turn = local if window else rope
        reach = window if causal or not window else window // 2 + 1
        y = attend(layer, h, shape, turn, norms="rms", window=reach, scale=scale, causal=causal)
        x = x + layer.norm(y, "post_attention_norm")
        h = gated(layer, layer.norm(x, "ffn_norm"), "gelu")
        x = x + layer.norm(h, "post_ffw_norm")
    return x

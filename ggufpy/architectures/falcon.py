"""Falcon: attention and network side by side, of one norm or of two; one matrix for q, k and v."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    flag,
    number,
    sizes,
    with_defaults,
)
from ggufpy.architectures._decoder import Shape, attend, head, plain
from ggufpy.architectures._encoder import activation, activation_key
from ggufpy.architectures._names import Names, Place, Way, ordered
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("FalconForCausalLM", "RWForCausalLM")

_LAYER = "transformer.h.{i}"


def _by_kind(place: Place) -> NDArray[np.int64]:
    """Rows of all queries, all keys, all values; in checkpoints those of a group are together."""
    heads, kv_heads = place.count("attention.head_count"), place.count("attention.head_count_kv")
    group, size = heads // kv_heads + 2, place.count("embedding_length") // heads
    order = np.arange(kv_heads * group * size).reshape(kv_heads, group, size)
    return np.concatenate([order[:, part].ravel() for part in (slice(-2), -2, -1)])


# The network's norm, where attention has another: one without the other is no model.
_OF_TWO = Way(
    lambda place: [place.filled(f"{_LAYER}.{name}") for name in ("ln_mlp", "ln_attn")],
    lambda place, found: found[0],
)

NAMES: Names = {
    "token_embd": "transformer.word_embeddings",
    "blk.{i}.attn_norm": (_LAYER + ".input_layernorm", _OF_TWO),
    "blk.{i}.attn_norm_2": _LAYER + ".ln_attn",
    "blk.{i}.attn_qkv": ordered(_LAYER + ".self_attention.query_key_value", _by_kind),
    "blk.{i}.attn_output": _LAYER + ".self_attention.dense",
    "blk.{i}.ffn_up": _LAYER + ".mlp.dense_h_to_4h",
    "blk.{i}.ffn_down": _LAYER + ".mlp.dense_4h_to_h",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys, in the words of the first checkpoints, too.

    `num_kv_heads` counts only where the architecture is the new one, or each query has its own key.
    """
    names = {"n_head": "num_attention_heads", "n_layer": "num_hidden_layers", "n_embed": "hidden_size"}
    old = {ours: config[theirs] for theirs, ours in names.items() if config.get(theirs) is not None}
    config = {
        **with_defaults(config, max_position_embeddings=2048, activation="gelu", multi_query=True),
        **old,
    }
    check_supported(config, "Falcon", alibi=(False,), parallel_attn=(True,))
    width, heads = count(config, "hidden_size"), count(config, "num_attention_heads")
    if flag(config, "new_decoder_architecture") or config.get("n_head_kv"):
        kv_heads = count(config, "num_kv_heads", config.get("n_head_kv") or heads)
    else:
        kv_heads = 1 if flag(config, "multi_query") else heads
    inner = count(config, "ffn_hidden_size", 4 * width)
    rope = rope_parameters(config)
    return {
        **sizes({**config, "num_key_value_heads": kv_heads, "intermediate_size": inner}),
        **rope_base(rope),
        **rope_scaling(config, rope, "Falcon"),
        **activation_key(config, "Falcon", "activation"),
        "attention.layer_norm_epsilon": number(config, "layer_norm_epsilon", 1e-5),
        "tensor_data_layout": "jploski",  # llama.cpp's word for rows by kind
        "vocab_size": count(config, "vocab_size"),
    }


def forward(g: Graph) -> Outputs:
    """Both read the same input, and both results are added to it."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    function = activation(g)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        h = layer.norm(x, "attn_norm", size="layer")
        of_attention = layer.norm(x, "attn_norm_2", size="layer") if layer.has("attn_norm_2.weight") else h
        x = x + attend(layer, of_attention, shape, rope) + plain(layer, h, function)
    return head(g, x, "layer")

"""InternLM 2: Llama with one matrix for q, k and v, whose rows go by the heads of k."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.architectures._conversion import Config, Metadata, check_supported, count, rms_epsilon, sizes
from ggufpy.architectures._decoder import Shape, attend, gated, head
from ggufpy.architectures._names import Names, Place, pairs, rows
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("InternLM2ForCausalLM",)

_WQKV = "model.layers.{i}.attention.wqkv"


def _part(part: slice | int) -> Callable[[Place], NDArray[np.int64]]:
    """Rows of heads: behind the queries that share a head of k come its rows, and those of v."""

    def which(place: Place) -> NDArray[np.int64]:
        heads, kv_heads = place.count("attention.head_count"), place.count("attention.head_count_kv")
        group, size = heads // kv_heads + 2, place.count("attention.key_length")
        order = np.arange(kv_heads * group * size).reshape(kv_heads, group, size)
        chosen: NDArray[np.int64] = order[:, part].reshape(-1)
        return chosen

    return which


NAMES: Names = {
    "token_embd": "model.tok_embeddings",
    "blk.{i}.attn_norm": "model.layers.{i}.attention_norm",
    "blk.{i}.attn_q": pairs(rows(_WQKV, _part(slice(None, -2))), "attention.head_count"),
    "blk.{i}.attn_k": pairs(rows(_WQKV, _part(-2)), "attention.head_count_kv"),
    "blk.{i}.attn_v": rows(_WQKV, _part(-1)),
    "blk.{i}.attn_output": "model.layers.{i}.attention.wo",
    "blk.{i}.ffn_norm": "model.layers.{i}.ffn_norm",
    "blk.{i}.ffn_gate": "model.layers.{i}.feed_forward.w1",
    "blk.{i}.ffn_up": "model.layers.{i}.feed_forward.w3",
    "blk.{i}.ffn_down": "model.layers.{i}.feed_forward.w2",
    "output_norm": "model.norm",
    "output": "output",
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    return hyperparameters(config, "InternLM 2")


def hyperparameters(config: Config, model: str) -> Metadata:
    """Keys of models whose classes came with their checkpoints."""
    config = {"max_position_embeddings": _context(config), **config}
    check_supported(config, model, hidden_act=("silu", "swish"))
    rope = rope_parameters(config)
    return {
        **sizes(config),
        **rope_base(rope),
        **rms_epsilon(config),
        **rope_scaling(config, rope, model),
        "vocab_size": count(config, "vocab_size"),
    }


def _context(config: Config) -> Any:
    return config.get("model_max_length", 2048)


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=False)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        x = x + attend(layer, layer.norm(x, "attn_norm"), shape, rope)
        x = x + gated(layer, layer.norm(x, "ffn_norm"), "silu")
    return head(g, x)

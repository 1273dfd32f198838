"""Jina embeddings v2: BERT whose scores fall with the distance (ALiBi), with gated feed-forward networks.

The model for code has norms of queries and keys, and one more behind a second sum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.architectures._conversion import Config, Metadata, check_supported
from ggufpy.architectures._decoder import Shape, attend, gated
from ggufpy.architectures._encoder import embedded, encoder_keys, layer_epsilon
from ggufpy.architectures._names import Names, Place, Way, ordered
from ggufpy.architectures._pooling import pooled
from ggufpy.graph import Graph, Outputs
from ggufpy.graph.nodes import Size

HF_CLASSES = ("JinaBertModel", "JinaBertForMaskedLM")
NOT_NEEDED = ("cls.", "bert.pooler.")

_LAYER = "bert.encoder.layer.{i}"


def _gate_first(name: str) -> Way:
    """Rows of a gate, which stand behind the others."""

    def order(place: Place) -> NDArray[np.int64]:
        inner = min(place.count("feed_forward_length"), 1 << 20)  # a larger one is refused by its tensors
        return np.roll(np.arange(2 * inner), inner)

    return ordered(name, order)


NAMES: Names = {
    "token_embd": "bert.embeddings.word_embeddings",
    "token_types": "bert.embeddings.token_type_embeddings",
    "token_embd_norm": "bert.embeddings.LayerNorm",
    "blk.{i}.attn_q": f"{_LAYER}.attention.self.query",
    "blk.{i}.attn_q_norm": f"{_LAYER}.attention.self.layer_norm_q",
    "blk.{i}.attn_k": f"{_LAYER}.attention.self.key",
    "blk.{i}.attn_k_norm": f"{_LAYER}.attention.self.layer_norm_k",
    "blk.{i}.attn_v": f"{_LAYER}.attention.self.value",
    "blk.{i}.attn_output": f"{_LAYER}.attention.output.dense",
    "blk.{i}.attn_output_norm": f"{_LAYER}.attention.output.LayerNorm",
    "blk.{i}.attn_norm_2": f"{_LAYER}.layer_norm_1",
    "blk.{i}.ffn_up": (f"{_LAYER}.mlp.gated_layers", _gate_first(f"{_LAYER}.mlp.up_gated_layer")),
    "blk.{i}.ffn_down": (f"{_LAYER}.mlp.wo", f"{_LAYER}.mlp.down_layer"),
    "blk.{i}.layer_output_norm": (f"{_LAYER}.mlp.layernorm", f"{_LAYER}.layer_norm_2"),
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    check_supported(
        config,
        "Jina v2",
        hidden_act=("gelu",),
        feed_forward_type=("geglu",),
        position_embedding_type=("alibi",),
        is_decoder=(False,),
        add_cross_attention=(False,),
    )
    return {**encoder_keys(config), **layer_epsilon(config)}


def forward(g: Graph) -> Outputs:
    """Post-norm encoder."""
    shape = Shape.read(g)
    x = g.norm(embedded(g), "token_embd_norm", size="layer")
    for layer in g.layers(shape.layers):
        norms: Size | None = "layer" if layer.has("attn_q_norm.weight") else None
        y = attend(layer, x, shape, None, norms=norms, max_bias=8.0, causal=False)
        h = layer.norm(x + y, "attn_output_norm", size="layer")
        if layer.has("attn_norm_2.weight"):
            h = layer.norm(x + h, "attn_norm_2", size="layer")
        x = layer.norm(h + gated(layer, h, "gelu_erf"), "layer_output_norm", size="layer")
    return {"embeddings": pooled(g, x)}

"""Nomic's BERT with experts in each second layer, and biases."""

from __future__ import annotations

from typing import Any

from ggufpy.architectures._conversion import Config, Metadata, check_supported, count
from ggufpy.architectures._decoder import choose, plain
from ggufpy.architectures._encoder import embedded, encode
from ggufpy.architectures._names import Names, Place, Way, reshaped, tensor, transposed, unless_zero
from ggufpy.architectures.nomic_bert import NAMES as _DENSE
from ggufpy.architectures.nomic_bert import in_common_words, keys_of
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES = ("NomicBertModel",)


def covers(config: Config) -> bool:
    """Whether some layers have experts."""
    return bool(config.get("moe_every_n_layers"))


def _experts(name: str) -> Way:
    """All experts' matrices below each other, each (inner, width)."""

    def shape(place: Place) -> Any:
        return (
            place.count("expert_count"),
            place.count("feed_forward_length"),
            place.count("embedding_length"),
        )

    return reshaped(tensor(f"encoder.layers.{{i}}.mlp.experts.{name}"), shape)


NAMES: Names = {
    **{entry: name for entry, name in _DENSE.items() if "ffn" not in entry},
    "blk.{i}.ffn_up": "encoder.layers.{i}.mlp.fc1",
    "blk.{i}.ffn_down": "encoder.layers.{i}.mlp.fc2",
    "blk.{i}.ffn_gate_inp": "encoder.layers.{i}.mlp.router.layer",
    "blk.{i}.ffn_up_exps.weight": _experts("mlp.w1"),
    "blk.{i}.ffn_down_exps.weight": transposed(_experts("mlp.w2")),
    # llama.cpp knows no such tensor, and drops it.
    "blk.{i}.ffn_down.bias": unless_zero(tensor("encoder.layers.{i}.mlp.experts.bias")),
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    config = in_common_words(config)
    check_supported(
        config,
        "Nomic BERT",
        hidden_act=("gelu",),
        moe_normalize_expert_weights=(False,),
        expert_choice_router=(False,),
        num_shared_experts=(0,),
    )
    return {
        **keys_of(config, 512),
        "expert_count": count(config, "num_experts", most=1024),
        "expert_used_count": count(config, "moe_top_k"),
        "moe_every_n_layers": count(config, "moe_every_n_layers"),
    }


def forward(g: Graph) -> Outputs:
    """Post-norm encoder; experts without gates."""
    every = g.keys.integer("moe_every_n_layers", 0, least=0)

    def feed(layer: Layer, h: Value) -> Value:
        if not every or layer.index % every != 1:
            return plain(layer, h, "gelu_erf")
        chosen = choose(layer, h)
        inner = layer.keys.integer("feed_forward_length")
        y = layer.linear_of_experts(h, "ffn_up_exps", chosen, outputs=inner).apply("gelu_erf")
        y = layer.linear_of_experts(y, "ffn_down_exps", chosen, outputs=h.width)
        total = layer.total(y * chosen.weights)
        return layer.vector(total, "add", "ffn_down.bias") if layer.has("ffn_down.bias") else total

    return encode(g, embedded(g), feed, rope=True)

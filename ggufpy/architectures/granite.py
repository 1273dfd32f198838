"""Granite: Llama whose embeddings, scores, residuals and logits are scaled."""

from __future__ import annotations

from typing import Any

from ggufpy.architectures import llama
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    head_size,
    number,
    rms_epsilon,
    sizes,
)
from ggufpy.architectures._decoder import Shape, attend, experts, gated, head, swiglu
from ggufpy.architectures._names import Names, Place, Way, constant, rows, when
from ggufpy.architectures._rope_keys import llama3_factors, rope_base, rope_parameters, rope_scaling
from ggufpy.architectures.mamba2 import mixer
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES = ("GraniteForCausalLM", "GraniteMoeHybridForCausalLM")

TURNS = "rope.scaling.finetuned"  # llama.cpp's switch of RoPE in these models


def fused(name: str, length: str) -> dict[str, str | Way]:
    """Gate and up are the halves of one matrix. length: the key that says of how many rows each."""

    def inner(place: Place) -> int:
        return place.count(length)

    return {
        "gate": rows(f"{name}.input_linear", lambda place: slice(inner(place))),
        "up": rows(f"{name}.input_linear", lambda place: slice(inner(place), None)),
        "down": f"{name}.output_linear",
    }


SHARED = fused("model.layers.{i}.shared_mlp", "feed_forward_length")

NAMES: Names = {
    **llama.NAMES,
    "rope_freqs.weight": when(lambda place: place.keys.get(TURNS) is not False, constant(llama3_factors)),
    **{
        f"blk.{{i}}.ffn_{part}": (f"model.layers.{{i}}.mlp.{part}_proj", SHARED[part])
        for part in ("gate", "up", "down")
    },
}


def attends_only(config: Config) -> bool:
    """Whether no layer of a hybrid model is Mamba 2's."""
    kinds: Any = config.get("layer_types")
    return isinstance(kinds, list) and all(kind in ("attention", "full_attention") for kind in kinds)


def covers(config: Config) -> bool:
    """Hybrid models that are no hybrids, without experts, are these."""
    is_hybrid = config.get("model_type") == "granitemoehybrid"
    return not is_hybrid or (attends_only(config) and not config.get("num_local_experts"))


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    return {**hyperparameters(config, "Granite"), **of_hybrids(config)}


def of_hybrids(config: Config) -> Metadata:
    """What else the configuration of a hybrid model says, where none of its layers is Mamba 2's."""
    if config.get("model_type") != "granitemoehybrid":
        return {}
    keys: Metadata = {TURNS: config.get("position_embedding_type") == "rope"}
    if not config.get("num_local_experts"):
        keys["feed_forward_length"] = count(config, "shared_intermediate_size", 1024)
    return keys


def hyperparameters(config: Config, model: str) -> Metadata:
    """Keys of all models of this family."""
    check_supported(config, model, hidden_act=("silu", "swish"))
    rope = rope_parameters(config)
    return {
        **sizes(config),
        "rope.dimension_count": head_size(config),
        **rope_base(rope),
        **rope_scaling(config, rope, model, others=("llama3",)),
        **rms_epsilon(config),
        "embedding_scale": number(config, "embedding_multiplier", 1.0),
        "attention.scale": number(config, "attention_multiplier", 1.0),
        "residual_scale": number(config, "residual_multiplier", 1.0),
        "logit_scale": number(config, "logits_scaling", 1.0),
        "vocab_size": count(config, "vocab_size"),
    }


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer; layers without heads of keys are Mamba 2's."""
    k = g.keys
    shape = Shape.read(g)
    rope = shape.rope(g, halves=False) if k.flag(TURNS, True) else None
    scale, residual = k.number("attention.scale", 0.0) or None, k.number("residual_scale", 0.0) or 1.0
    x = g.embed("token_embd", shape.width, scale=k.number("embedding_scale", 0.0) or 1.0)
    for layer, is_recurrent in zip(g.layers(shape.layers), shape.recurrent(g), strict=True):
        h = layer.norm(x, "attn_norm")
        if is_recurrent:
            y = mixer(layer, h)
        else:
            y = attend(layer, h, shape, rope, factors="rope_freqs.weight", scale=scale)
        x = x + _scaled(y, residual)
        x = x + _scaled(feed_forward(layer, layer.norm(x, "ffn_norm")), residual)
    return head(g, x, scale=1 / (k.number("logit_scale", 0.0) or 1.0))


def _scaled(y: Value, factor: float) -> Value:
    return y if factor == 1.0 else y * factor


def feed_forward(layer: Layer, h: Value) -> Value:
    """A gated network, or experts whose weights sum to 1, and one that all tokens share."""
    if not layer.keys.integer("expert_count", 0, least=0):
        return gated(layer, h, "silu")
    y = experts(layer, h, swiglu, normalize=True)
    shared = layer.keys.integer("expert_shared_feed_forward_length", 0, least=0)
    return y + gated(layer, h, "silu", "_shexp") if shared else y

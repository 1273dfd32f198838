"""SmolLM3: Llama in which every fourth layer's queries and keys do not turn."""

from __future__ import annotations

from ggufpy.architectures import llama
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    flag,
    head_size,
    kinds_of_layers,
    layer_count,
    rms_epsilon,
    sizes,
    windows_of_layers,
)
from ggufpy.architectures._decoder import Shape, attend, gated, head, windows
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("SmolLM3ForCausalLM",)

NAMES = llama.NAMES

EVERY = 4  # of so many layers one does not turn, where nothing is said: llama.cpp knows no other


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; those of windows llama.cpp does not read."""
    check_supported(config, "SmolLM3", hidden_act=("silu", "swish"), use_sliding_window=(False, True))
    rope = rope_parameters(config, 2e6)
    turns = _turns(config)
    keys = {
        **sizes(config),
        "rope.dimension_count": head_size(config),
        **rope_base(rope),
        **rope_scaling(config, rope, "SmolLM3", others=("llama3",)),
        **rms_epsilon(config),
        "vocab_size": count(config, "vocab_size"),
    }
    if turns != [bool((layer + 1) % EVERY) for layer in range(len(turns))]:
        keys["attention.rope_pattern"] = turns
    if flag(config, "use_sliding_window") and config.get("sliding_window") is not None:
        kinds = ["full_attention" if each else "sliding_attention" for each in turns]
        keys |= windows_of_layers({**config, "layer_types": config.get("layer_types") or kinds}, every=0)
    return keys


def _turns(config: Config) -> list[bool]:
    """In which layers there is RoPE."""
    if config.get("no_rope_layers") is not None:
        return kinds_of_layers(config, {1: True, 0: False}, "no_rope_layers")
    every = count(config, "no_rope_layer_interval", EVERY)
    return [bool((layer + 1) % every) for layer in range(layer_count(config))]


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=False)
    turns = g.keys.pattern("attention.rope_pattern", shape.layers, EVERY)
    x = g.embed("token_embd", shape.width)
    for layer, window in zip(g.layers(shape.layers), windows(g, shape, every=0), strict=True):
        turn = rope if turns[layer.index] else None
        h = layer.norm(x, "attn_norm")
        x = x + attend(layer, h, shape, turn, factors="rope_freqs.weight", window=window)
        x = x + gated(layer, layer.norm(x, "ffn_norm"), "silu")
    return head(g, x)

"""EXAONE 4: norms behind attention and feed-forward network; layers that attend to all do not turn."""

from __future__ import annotations

from ggufpy.architectures import qwen2
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    rms_epsilon,
    sizes,
    windows_of_layers,
)
from ggufpy.architectures._decoder import Shape, attend, gated, head, windows
from ggufpy.architectures._names import Names, constant
from ggufpy.architectures._rope_keys import llama3_factors, rope_base, rope_parameters, rope_scaling
from ggufpy.errors import UnsupportedModelError
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("Exaone4ForCausalLM",)

NAMES: Names = {
    **{name: theirs for name, theirs in qwen2.NAMES.items() if "_norm" not in name},
    "rope_freqs.weight": constant(llama3_factors),
    "blk.{i}.attn_q_norm": "model.layers.{i}.self_attn.q_norm",
    "blk.{i}.attn_k_norm": "model.layers.{i}.self_attn.k_norm",
    "blk.{i}.post_attention_norm": "model.layers.{i}.post_attention_layernorm",
    "blk.{i}.post_ffw_norm": "model.layers.{i}.post_feedforward_layernorm",
    "output_norm": "model.norm",
}


def _every(layers: int) -> int:
    """Of so many layers one attends to all, where nothing is said: llama.cpp knows the 32B model only."""
    return 4 if layers == 64 else 0


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    check_supported(config, "EXAONE 4", hidden_act=("silu", "swish"))
    rope = rope_parameters(config)
    keys = {
        **sizes(config),
        **rope_base(rope),
        **rope_scaling(config, rope, "EXAONE 4", others=("llama3",)),
        **rms_epsilon(config),
        "vocab_size": count(config, "vocab_size"),
    }
    if not config.get("sliding_window"):
        return keys
    windows_ = windows_of_layers(config, every=_every(count(config, "num_hidden_layers")))
    if not windows_:
        raise UnsupportedModelError("config.json: a sliding_window in an EXAONE 4 whose layers have none")
    return {**keys, **windows_}


def forward(g: Graph) -> Outputs:
    """Post-norm transformer."""
    shape = Shape.read(g)
    rope = shape.local_rope(g, shape.rope(g, halves=True), g.keys.number("rope.freq_base", 10000.0))
    local = windows(g, shape, every=_every(shape.layers))
    x = g.embed("token_embd", shape.width)
    for layer, window in zip(g.layers(shape.layers), local, strict=True):
        turns = rope if window or not any(local) else None
        y = attend(layer, x, shape, turns, norms="rms", factors="rope_freqs.weight", window=window)
        x = x + layer.norm(y, "post_attention_norm")
        x = x + layer.norm(gated(layer, x, "silu"), "post_ffw_norm")
    return head(g, x)

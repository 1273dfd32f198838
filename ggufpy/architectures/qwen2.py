"""Qwen2: Llama with biases of q, k and v, pairs that lie half a head apart, and windows of later layers."""

from __future__ import annotations

from collections.abc import Callable

from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    flag,
    layer_count,
    rms_epsilon,
    sizes,
    windows_of_layers,
)
from ggufpy.architectures._decoder import Shape, attend, gated, head, windows
from ggufpy.architectures._names import Names
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.errors import FormatError
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("Qwen2ForCausalLM",)

NAMES: Names = {
    "token_embd": "model.embed_tokens",
    "blk.{i}.attn_norm": "model.layers.{i}.input_layernorm",
    "blk.{i}.attn_q": "model.layers.{i}.self_attn.q_proj",
    "blk.{i}.attn_k": "model.layers.{i}.self_attn.k_proj",
    "blk.{i}.attn_v": "model.layers.{i}.self_attn.v_proj",
    "blk.{i}.attn_output": "model.layers.{i}.self_attn.o_proj",
    "blk.{i}.ffn_norm": "model.layers.{i}.post_attention_layernorm",
    "blk.{i}.ffn_gate": "model.layers.{i}.mlp.gate_proj",
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.up_proj",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.down_proj",
    "output_norm": "model.norm",
    "output": "lm_head",
}

EVERY = 1  # of so many layers one attends to all, where nothing is said


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    return hyperparameters(config, "Qwen2", lambda layer, most: layer >= most)


def hyperparameters(config: Config, model: str, has_window: Callable[[int, int], bool]) -> Metadata:
    """Keys of all models with this attention; those of windows llama.cpp does not read.

    has_window: whether a layer has one, by `max_window_layers`, where `layer_types` does not say.
    """
    check_supported(config, model, hidden_act=("silu", "swish"), use_sliding_window=(False, True))
    rope = rope_parameters(config)
    keys = {
        **sizes(config),
        **rope_base(rope),
        **rms_epsilon(config),
        **rope_scaling(config, rope, model),
    }
    config = {"sliding_window": 4096, "max_window_layers": 28, **config}
    if flag(config, "use_sliding_window") and config["sliding_window"] is not None:
        most = config["max_window_layers"]
        if type(most) is not int:
            raise FormatError(f"config.json: max_window_layers is {most!r:.40}, it must be a whole number")
        local = [has_window(layer, most) for layer in range(layer_count(config))]
        kinds = ["sliding_attention" if each else "full_attention" for each in local]
        keys |= windows_of_layers({**config, "layer_types": config.get("layer_types") or kinds}, every=EVERY)
    return keys


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    x = g.embed("token_embd", shape.width)
    for layer, window in zip(g.layers(shape.layers), windows(g, shape, every=EVERY), strict=True):
        x = x + attend(layer, layer.norm(x, "attn_norm"), shape, rope, window=window)
        x = x + gated(layer, layer.norm(x, "ffn_norm"), "silu")
    return head(g, x)

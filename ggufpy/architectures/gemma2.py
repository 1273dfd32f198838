"""Gemma 2: Gemma with norms before and after, a window in every other layer, limited scores and logits."""

from __future__ import annotations

import math

from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    number,
    rms_epsilon,
    sizes,
    windows_of_layers,
)
from ggufpy.architectures._decoder import Shape, attend, gated, head, windows
from ggufpy.architectures._names import Names, plus_one
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("Gemma2ForCausalLM",)

NAMES: Names = {
    "token_embd": "model.embed_tokens",
    "blk.{i}.attn_norm": plus_one("model.layers.{i}.input_layernorm"),
    "blk.{i}.attn_q": "model.layers.{i}.self_attn.q_proj",
    "blk.{i}.attn_k": "model.layers.{i}.self_attn.k_proj",
    "blk.{i}.attn_v": "model.layers.{i}.self_attn.v_proj",
    "blk.{i}.attn_output": "model.layers.{i}.self_attn.o_proj",
    "blk.{i}.post_attention_norm": plus_one("model.layers.{i}.post_attention_layernorm"),
    "blk.{i}.ffn_norm": plus_one("model.layers.{i}.pre_feedforward_layernorm"),
    "blk.{i}.ffn_gate": "model.layers.{i}.mlp.gate_proj",
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.up_proj",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.down_proj",
    "blk.{i}.post_ffw_norm": plus_one("model.layers.{i}.post_feedforward_layernorm"),
    "output_norm": plus_one("model.norm"),
    "output": "lm_head",
}

_EVERY = 2  # of so many layers one attends to all, where nothing is said
_WINDOW = 4096  # where nothing is said
_LARGEST = 46  # layers of the model whose scores are scaled another way
_CAPS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}  # where nothing is said


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; a cap or a window that is none is 0, as without its key it is the usual."""
    check_supported(
        config, "Gemma 2", hidden_activation=("gelu_pytorch_tanh",), use_bidirectional_attention=(False,)
    )
    config = {"head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": _WINDOW, **_CAPS, **config}
    rope = rope_parameters(config)
    return {
        **sizes(config),
        **rope_base(rope),
        **rope_scaling(config, rope, "Gemma 2"),
        **rms_epsilon(config),
        **(windows_of_layers(config, every=_EVERY) or {"attention.sliding_window": 0}),
        **{key: 0.0 if config[key] is None else number(config, key) for key in _CAPS},
        **scale_of_scores(config, _LARGEST),
    }


def scale_of_scores(config: Config, largest: int) -> Metadata:
    """The key of what scores are multiplied with, if it is not the default; largest: as for `read_scale`."""
    scale = number(config, "query_pre_attn_scalar") ** -0.5
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "head_dim")
    layers, width, heads, size = (count(config, name) for name in names)
    default = default_scale(layers, width, heads, size, largest)
    return {} if math.isclose(scale, default, rel_tol=1e-6) else {"attention.scale": scale}


def default_scale(layers: int, width: int, heads: int, size: int, largest: int) -> float:
    """What scores are multiplied with where nothing is said, by sizes; the `largest` is an exception."""
    return 1 / math.sqrt(width // heads if layers == largest else size)


def read_scale(g: Graph, shape: Shape, largest: int) -> float:
    """What scores are multiplied with; largest: layers of the model that has another default."""
    default = default_scale(shape.layers, shape.width, shape.heads[0], shape.key_length, largest)
    return g.keys.number("attention.scale", 0.0) or default


def forward(g: Graph) -> Outputs:
    """Norms before and after attention and feed-forward network."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    local = shape.local_rope(g, rope, rope.base)
    scale = read_scale(g, shape, _LARGEST)
    softcap = g.keys.number("attn_logit_softcapping", _CAPS["attn_logit_softcapping"])
    x = g.embed("token_embd", shape.width, scale=math.sqrt(shape.width))
    of_layers = windows(g, shape, every=_EVERY, usual=_WINDOW)
    for layer, window in zip(g.layers(shape.layers), of_layers, strict=True):
        h = layer.norm(x, "attn_norm")
        turn = local if window else rope
        y = attend(layer, h, shape, turn, window=window, scale=scale, softcap=softcap)
        x = x + layer.norm(y, "post_attention_norm")
        h = gated(layer, layer.norm(x, "ffn_norm"), "gelu")
        x = x + layer.norm(h, "post_ffw_norm")
    return head(g, x, softcap=_CAPS["final_logit_softcapping"])

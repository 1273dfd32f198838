"""Nemotron and Minitron: LayerNorms that keep what they add to 1, squared ReLU, half of each head turns."""

from __future__ import annotations

from ggufpy.architectures import qwen2
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    head_size,
    number,
    sizes,
)
from ggufpy.architectures._decoder import Shape, attend, head, plain
from ggufpy.architectures._names import Names, plus_one
from ggufpy.architectures._rope_keys import partial_rope, rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("NemotronForCausalLM",)

NAMES: Names = {
    **{name: theirs for name, theirs in qwen2.NAMES.items() if name != "blk.{i}.ffn_gate"},
    "blk.{i}.attn_norm": plus_one("model.layers.{i}.input_layernorm"),
    "blk.{i}.ffn_norm": plus_one("model.layers.{i}.post_attention_layernorm"),
    "output_norm": plus_one("model.norm"),
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    check_supported(config, "Nemotron", hidden_act=("relu2",))
    rope = rope_parameters(config)
    return {
        **sizes(config),
        **partial_rope(config, rope, head_size(config), 0.5),
        **rope_base(rope),
        **rope_scaling(config, rope, "Nemotron"),
        "attention.layer_norm_epsilon": number(config, "norm_eps", 1e-5),
        "vocab_size": count(config, "vocab_size"),
    }


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        x = x + attend(layer, layer.norm(x, "attn_norm", size="layer"), shape, rope)
        x = x + plain(layer, layer.norm(x, "ffn_norm", size="layer"), "relu2")
    return head(g, x, "layer")

"""GLM-4: norms before and after, gate and up in one matrix, RoPE of a part of each head."""

from __future__ import annotations

from ggufpy.architectures import qwen2
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    head_size,
    rms_epsilon,
    sizes,
)
from ggufpy.architectures._decoder import Shape, attend, gated, head
from ggufpy.architectures._names import Names
from ggufpy.architectures._rope_keys import partial_rope, rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("Glm4ForCausalLM",)

NAMES: Names = {
    **{name: theirs for name, theirs in qwen2.NAMES.items() if not name.endswith(("ffn_gate", "ffn_up"))},
    "blk.{i}.post_attention_norm": "model.layers.{i}.post_self_attn_layernorm",
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.gate_up_proj",
    "blk.{i}.post_ffw_norm": "model.layers.{i}.post_mlp_layernorm",
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    return hyperparameters(config, "GLM-4")


def hyperparameters(config: Config, model: str) -> Metadata:
    """Keys of all models with this attention."""
    check_supported(config, model, hidden_act=("silu", "swish"))
    rope = rope_parameters(config)
    return {
        **sizes(config),
        **partial_rope(config, rope, head_size(config), 0.5),
        **rope_base(rope),
        **rope_scaling(config, rope, model),
        **rms_epsilon(config, 1e-5),
        "vocab_size": count(config, "vocab_size"),
    }


def forward(g: Graph) -> Outputs:
    """Pairs that turn are neighbours, but in models that see, whose angles have sections."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=any(g.keys.get("rope.dimension_sections", [])))
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        y = attend(layer, layer.norm(x, "attn_norm"), shape, rope)
        x = x + layer.norm(y, "post_attention_norm")
        x = x + layer.norm(gated(layer, layer.norm(x, "ffn_norm"), "silu"), "post_ffw_norm")
    return head(g, x)

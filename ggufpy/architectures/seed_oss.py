"""Seed-OSS: Qwen2's layout, with another name for the norm in the middle."""

from __future__ import annotations

from ggufpy.architectures import qwen2
from ggufpy.architectures._conversion import Config, Metadata, check_supported, rms_epsilon, sizes
from ggufpy.architectures._decoder import Shape, attend, gated, head
from ggufpy.architectures._names import Names
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("SeedOssForCausalLM",)

NAMES: Names = {
    name.replace("ffn_norm", "post_attention_norm"): theirs for name, theirs in qwen2.NAMES.items()
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    check_supported(config, "Seed-OSS", hidden_act=("silu", "swish"))
    rope = rope_parameters(config)
    return {
        **sizes(config, head_dim=128),
        **rope_base(rope),
        **rms_epsilon(config),
        **rope_scaling(config, rope, "Seed-OSS"),
    }


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        x = x + attend(layer, layer.norm(x, "attn_norm"), shape, rope)
        x = x + gated(layer, layer.norm(x, "post_attention_norm"), "silu")
    return head(g, x)

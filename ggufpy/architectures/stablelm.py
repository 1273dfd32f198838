"""StableLM: LayerNorms, gated SiLU, a part of each head turns; the 12B model has norms of each head."""

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
from ggufpy.architectures._decoder import Shape, attend, gated, head
from ggufpy.architectures._names import Names, stack
from ggufpy.architectures._rope_keys import partial_rope, rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs
from ggufpy.graph.nodes import Size

HF_CLASSES = ("StableLmForCausalLM", "StableLMEpochForCausalLM")

_ATTENTION = "model.layers.{i}.self_attn"

NAMES: Names = {
    **qwen2.NAMES,
    "blk.{i}.attn_q_norm": stack(
        _ATTENTION + ".q_layernorm.norms.{e}", lambda place: place.count("attention.head_count")
    ),
    "blk.{i}.attn_k_norm": stack(
        _ATTENTION + ".k_layernorm.norms.{e}", lambda place: place.count("attention.head_count_kv")
    ),
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    check_supported(config, "StableLM", hidden_act=("silu", "swish"), use_parallel_residual=(False, True))
    rope = rope_parameters(config)
    return {
        **sizes(config),
        **partial_rope(config, rope, head_size(config), 0.25),
        **rope_base(rope),
        **rope_scaling(config, rope, "StableLM"),
        "attention.layer_norm_epsilon": number(config, "layer_norm_eps", number(config, "norm_eps", 1e-5)),
        "use_parallel_residual": config.get("use_parallel_residual") is True,
        "vocab_size": count(config, "vocab_size"),
    }


def forward(g: Graph) -> Outputs:
    """Where attention and network are side by side, they have one norm.

    Llama.cpp's converter says that they are where the configuration says nothing; norms then say that not.
    """
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    is_parallel = g.keys.flag("use_parallel_residual", False)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        h = layer.norm(x, "attn_norm", size="layer")
        norms: Size | None = "layer" if layer.has("attn_q_norm.weight") else None
        x = x + attend(layer, h, shape, rope, norms=norms)
        if not is_parallel or layer.has("ffn_norm.weight"):
            h = layer.norm(x, "ffn_norm", size="layer")
        x = x + gated(layer, h, "silu")
    return head(g, x, "layer")

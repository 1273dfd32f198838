"""HunYuan: norms of the heads of q and k behind RoPE, whose base grows with a factor `alpha`."""

from __future__ import annotations

from typing import Any

from ggufpy.architectures import qwen2
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
from ggufpy.architectures._decoder import Shape, gated, head, qkv
from ggufpy.architectures._names import Names
from ggufpy.architectures._rope_keys import rope_parameters, rope_scaling
from ggufpy.graph import Graph, Layer, Outputs, Value
from ggufpy.graph.rope import Rope

HF_CLASSES = ("HunYuanDenseV1ForCausalLM",)

NAMES: Names = {
    **qwen2.NAMES,
    "blk.{i}.attn_q_norm": "model.layers.{i}.self_attn.query_layernorm",
    "blk.{i}.attn_k_norm": "model.layers.{i}.self_attn.key_layernorm",
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    return hyperparameters(config, "HunYuan")


def hyperparameters(config: Config, model: str) -> Metadata:
    """Keys of all models with this attention."""
    check_supported(config, model, hidden_act=("silu", "swish"), use_qk_norm=(True,), use_cla=(False,))
    rope = rope_parameters(config)
    return {
        **sizes(config),
        "rope.freq_base": _base(config, rope),
        **rope_scaling(config, rope, model),
        **rms_epsilon(config),
        "vocab_size": count(config, "vocab_size"),
    }


def _base(config: Config, rope: dict[str, Any]) -> float:
    """RoPE of the kind "dynamic" with `alpha` has a larger base, from the first token on.

    Source: transformers modeling_hunyuan_v1_dense.py.
    """
    base, size = number(rope, "rope_theta"), head_size(config)
    if rope["rope_type"] != "dynamic" or not rope.get("alpha"):
        return base
    return float(base * number(rope, "alpha") ** (size / (size - 2)))


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        x = x + attend(layer, layer.norm(x, "attn_norm"), shape, rope)
        x = x + gated(layer, layer.norm(x, "ffn_norm"), "silu")
    return head(g, x)


def attend(layer: Layer, h: Value, shape: Shape, rope: Rope) -> Value:
    """Attention whose queries and keys have a norm of each head after RoPE."""
    q, k, v = qkv(layer, h, shape)
    q, k = (layer.norm(layer.rope(y, rope), name) for y, name in ((q, "attn_q_norm"), (k, "attn_k_norm")))
    return layer.linear(layer.attention(q, layer.keep(k, v)).flat(), "attn_output", outputs=shape.width)

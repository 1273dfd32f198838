"""Command R: one LayerNorm per layer, attention and feed-forward network side by side, scaled logits."""

from __future__ import annotations

from ggufpy.architectures import qwen2
from ggufpy.architectures._conversion import Config, Metadata, check_supported, count, number, sizes
from ggufpy.architectures._decoder import Shape, attend, gated, head
from ggufpy.architectures._names import Names
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs
from ggufpy.graph.nodes import Size

HF_CLASSES = ("CohereForCausalLM",)

NAMES: Names = {
    **{name: theirs for name, theirs in qwen2.NAMES.items() if "ffn_norm" not in name},
    "blk.{i}.attn_q_norm": "model.layers.{i}.self_attn.q_norm",
    "blk.{i}.attn_k_norm": "model.layers.{i}.self_attn.k_norm",
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    return hyperparameters(config, "Command R")


def hyperparameters(config: Config, model: str) -> Metadata:
    """Keys of all models of this family."""
    check_supported(config, model, hidden_act=("silu", "swish"))
    rope = rope_parameters(config)
    return {
        **sizes(config),
        **rope_base(rope),
        **rope_scaling(config, rope, model),
        "attention.layer_norm_epsilon": number(config, "layer_norm_eps", 1e-5),
        "logit_scale": number(config, "logit_scale", 0.0625),
        "vocab_size": count(config, "vocab_size"),
    }


def forward(g: Graph) -> Outputs:
    """The largest model has norms of the heads of q and k."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=False)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        h = layer.norm(x, "attn_norm", size="layer")
        norms: Size | None = "layer" if layer.has("attn_q_norm.weight") else None
        x = x + attend(layer, h, shape, rope, norms=norms) + gated(layer, h, "silu")
    return head(g, x, "layer", scale=g.keys.number("logit_scale"))

"""ERNIE 4.5: Llama's layout; pairs that turn are neighbours in the checkpoint, too."""

from __future__ import annotations

from ggufpy.architectures import qwen2
from ggufpy.architectures._conversion import Config, Metadata, check_supported, count, rms_epsilon, sizes
from ggufpy.architectures._decoder import Shape, attend, gated, head
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM")

NAMES = qwen2.NAMES


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    return hyperparameters(config, "ERNIE 4.5")


def hyperparameters(config: Config, model: str) -> Metadata:
    """Keys of all models with this attention."""
    check_supported(config, model, hidden_act=("silu", "swish"))
    rope = rope_parameters(config, 500000.0)
    return {
        **sizes(config),
        **rope_base(rope),
        **rope_scaling(config, rope, model),
        **rms_epsilon(config, 1e-5),
        "vocab_size": count(config, "vocab_size"),
    }


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=False)
    for key in ("expert_count", "expert_used_count"):
        g.keys.get(key, 0)  # of a family whose other member has experts: this one never does
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        x = x + attend(layer, layer.norm(x, "attn_norm"), shape, rope)
        x = x + gated(layer, layer.norm(x, "ffn_norm"), "silu")
    return head(g, x)

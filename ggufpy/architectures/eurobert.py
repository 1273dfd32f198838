"""EuroBERT: Llama's layers, in which every token sees all others."""

from __future__ import annotations

from ggufpy.architectures._conversion import Config, Metadata, check_supported, rms_epsilon, sizes
from ggufpy.architectures._decoder import Shape, attend, gated
from ggufpy.architectures._names import Names
from ggufpy.architectures._pooling import pooled
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.architectures.qwen3 import NAMES as _QWEN3
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("EuroBertModel", "EuroBertForMaskedLM")
NOT_NEEDED = ("lm_head.",)

NAMES: Names = {
    entry: name
    for entry, name in _QWEN3.items()
    if entry not in ("output", "cls.output") and not entry.endswith(("q_norm", "k_norm"))
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    check_supported(config, "EuroBERT", hidden_act=("silu", "swish"))
    rope = rope_parameters(config, theta=250000.0)
    return {
        **sizes(config),
        "attention.causal": False,
        **rope_base(rope),
        "rope.scaling.type": "none",
        **rope_scaling(config, rope, "EuroBERT"),
        **rms_epsilon(config, 1e-5),
    }


def forward(g: Graph) -> Outputs:
    """Pre-norm encoder; pairs lie half a head apart."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        x = x + attend(layer, layer.norm(x, "attn_norm"), shape, rope, causal=False)
        x = x + gated(layer, layer.norm(x, "ffn_norm"), "silu")
    return {"embeddings": pooled(g, g.norm(x, "output_norm"))}

"""Llama in which every token sees all others, for embeddings: NVIDIA's llama-embed-nemotron."""

from __future__ import annotations

from ggufpy.architectures import llama
from ggufpy.architectures._conversion import Config, Metadata, check_supported
from ggufpy.architectures._decoder import Shape, attend, gated
from ggufpy.architectures._names import Names
from ggufpy.architectures._pooling import CLS, LAST, MEAN, pooled
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("LlamaBidirectionalModel",)
NAMES: Names = {
    entry: name
    for entry, name in llama.NAMES.items()
    if entry != "output" and "_exps" not in entry and "gate_inp" not in entry
}

_POOLINGS = {"avg": MEAN, "cls": CLS, "last": LAST}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; llama.cpp, too, needs to be told that tokens see later ones."""
    check_supported(config, "Llama", pooling=tuple(_POOLINGS))
    keys = {**llama.metadata(config), "attention.causal": False}
    if config.get("pooling") is not None:
        keys["pooling_type"] = _POOLINGS[config["pooling"]]
    return keys


def forward(g: Graph) -> Outputs:
    """Pre-norm encoder; neighbours are paired."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=False)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        h = layer.norm(x, "attn_norm")
        x = x + attend(layer, h, shape, rope, factors="rope_freqs.weight", causal=False)
        x = x + gated(layer, layer.norm(x, "ffn_norm"), "silu")
    return {"embeddings": pooled(g, g.norm(x, "output_norm"))}

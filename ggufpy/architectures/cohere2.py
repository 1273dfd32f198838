"""Command R7B, Command A: Command R whose layers turn only where they have a window, three of four."""

from __future__ import annotations

from ggufpy.architectures import command_r, qwen2
from ggufpy.architectures._conversion import Config, Metadata, windows_of_layers
from ggufpy.architectures._decoder import Shape, attend, gated, head, windows
from ggufpy.architectures._names import Names
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("Cohere2ForCausalLM",)

NAMES: Names = {name: theirs for name, theirs in qwen2.NAMES.items() if "ffn_norm" not in name}

_EVERY = 4  # of so many layers one attends to all, where nothing is said


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    keys = command_r.hyperparameters(config, "Cohere 2")
    size = keys["attention.key_length"]
    return {**keys, "rope.dimension_count": size, **windows_of_layers(config, every=_EVERY)}


def forward(g: Graph) -> Outputs:
    """As Command R's."""
    shape = Shape.read(g)
    rope = shape.local_rope(g, shape.rope(g, halves=False), g.keys.number("rope.freq_base", 10000.0))
    x = g.embed("token_embd", shape.width)
    for layer, window in zip(g.layers(shape.layers), windows(g, shape, every=_EVERY), strict=True):
        h = layer.norm(x, "attn_norm", size="layer")
        y = attend(layer, h, shape, rope if window else None, window=window)
        x = x + y + gated(layer, h, "silu")
    return head(g, x, "layer", scale=g.keys.number("logit_scale"))

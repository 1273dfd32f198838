"""StarCoder2: LayerNorms, biases, GELU without a gate; all layers look back a window, in some models."""

from __future__ import annotations

from ggufpy.architectures import qwen2
from ggufpy.architectures._conversion import Config, Metadata, count, number, sizes
from ggufpy.architectures._decoder import Shape, attend, head, plain, windows
from ggufpy.architectures._encoder import activation, activation_key
from ggufpy.architectures._names import Names
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("Starcoder2ForCausalLM",)

NAMES: Names = {
    **{name: theirs for name, theirs in qwen2.NAMES.items() if name != "blk.{i}.ffn_gate"},
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.c_fc",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.c_proj",
}

_ACTIVATION = "gelu_pytorch_tanh"


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; that of the window llama.cpp does not read."""
    rope = rope_parameters(config)
    keys = {
        **sizes(config),
        **rope_base(rope),
        **rope_scaling(config, rope, "StarCoder2"),
        **activation_key(config, "StarCoder2", usual=_ACTIVATION),
        "attention.layer_norm_epsilon": number(config, "norm_epsilon", 1e-5),
        "vocab_size": count(config, "vocab_size"),
    }
    if config.get("sliding_window") is not None:
        keys["attention.sliding_window"] = count(config, "sliding_window")
    return keys


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    function, local = activation(g, _ACTIVATION), windows(g, shape, every=shape.layers + 1)
    x = g.embed("token_embd", shape.width)
    for layer, window in zip(g.layers(shape.layers), local, strict=True):
        x = x + attend(layer, layer.norm(x, "attn_norm", size="layer"), shape, rope, window=window)
        x = x + plain(layer, layer.norm(x, "ffn_norm", size="layer"), function)
    return head(g, x, "layer")

"""GPT-NeoX and Pythia: LayerNorms, GELU, a part of each head turns; attention and network side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    head_size,
    number,
    sizes,
    with_defaults,
)
from ggufpy.architectures._decoder import Shape, attend, head, plain
from ggufpy.architectures._encoder import activation, activation_key
from ggufpy.architectures._names import Names, Place, ordered
from ggufpy.architectures._rope_keys import partial_rope, rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("GPTNeoXForCausalLM",)

_LAYER = "gpt_neox.layers.{i}"


def _by_heads(place: Place) -> NDArray[np.int64]:
    """Rows of all queries, all keys, all values; checkpoints have those of a head side by side."""
    heads = place.count("attention.head_count")
    order = np.arange(3 * place.count("embedding_length")).reshape(heads, 3, -1)
    return order.swapaxes(0, 1).ravel()


NAMES: Names = {
    "token_embd": "gpt_neox.embed_in",
    "blk.{i}.attn_norm": _LAYER + ".input_layernorm",
    "blk.{i}.attn_qkv": ordered(_LAYER + ".attention.query_key_value", _by_heads),
    "blk.{i}.attn_output": _LAYER + ".attention.dense",
    "blk.{i}.ffn_norm": _LAYER + ".post_attention_layernorm",
    "blk.{i}.ffn_up": _LAYER + ".mlp.dense_h_to_4h",
    "blk.{i}.ffn_down": _LAYER + ".mlp.dense_4h_to_h",
    "output_norm": "gpt_neox.final_layer_norm",
    "output": ("embed_out", "lm_head"),
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; RoPE has names of its own before transformers 5."""
    check_supported(config, "GPT-NeoX", use_parallel_residual=(True, False))
    config = with_defaults(
        config,
        partial_rotary_factor=config.get("rotary_pct", 0.25),
        rope_theta=config.get("rotary_emb_base", 10000),
    )
    rope = rope_parameters(config)
    return {
        **sizes(config),
        **partial_rope(config, rope, head_size(config), 0.25),
        **rope_base(rope),
        **rope_scaling(config, rope, "GPT-NeoX"),
        **activation_key(config, "GPT-NeoX"),
        "attention.layer_norm_epsilon": number(config, "layer_norm_eps", 1e-5),
        "use_parallel_residual": config.get("use_parallel_residual") is not False,
        "vocab_size": count(config, "vocab_size"),
    }


def forward(g: Graph) -> Outputs:
    """Both read the same, each through a norm of its own, or the network reads what attention leaves."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    function, is_parallel = activation(g), g.keys.flag("use_parallel_residual", True)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        after = x + attend(layer, layer.norm(x, "attn_norm", size="layer"), shape, rope)
        h = layer.norm(x if is_parallel else after, "ffn_norm", size="layer")
        x = after + plain(layer, h, function)
    return head(g, x, "layer")

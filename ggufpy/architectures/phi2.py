"""Phi-1, 1.5 and 2: attention and feed-forward network side by side, of one norm; biases everywhere."""

from __future__ import annotations

from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    head_size,
    number,
    sizes,
)
from ggufpy.architectures._decoder import Shape, attend, head, plain
from ggufpy.architectures._names import Names
from ggufpy.architectures._rope_keys import partial_rope, rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("PhiForCausalLM",)

NAMES: Names = {
    "token_embd": "model.embed_tokens",
    "blk.{i}.attn_norm": "model.layers.{i}.input_layernorm",
    "blk.{i}.attn_q": "model.layers.{i}.self_attn.q_proj",
    "blk.{i}.attn_k": "model.layers.{i}.self_attn.k_proj",
    "blk.{i}.attn_v": "model.layers.{i}.self_attn.v_proj",
    "blk.{i}.attn_output": "model.layers.{i}.self_attn.dense",
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.fc1",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.fc2",
    "output_norm": "model.final_layernorm",
    "output": "lm_head",
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys, which have no norms of heads."""
    check_supported(config, "Phi", hidden_act=("gelu_new",), qk_layernorm=(False,))
    rope = rope_parameters(config)
    return {
        **sizes(config),
        **partial_rope(config, rope, head_size(config), 0.5),
        **rope_base(rope),
        **rope_scaling(config, rope, "Phi"),
        "attention.layer_norm_epsilon": number(config, "layer_norm_eps", 1e-5),
        "vocab_size": count(config, "vocab_size"),
    }


def forward(g: Graph) -> Outputs:
    """Values that turn are paired half of them apart."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        h = layer.norm(x, "attn_norm", size="layer")
        x = x + attend(layer, h, shape, rope) + plain(layer, h, "gelu")
    return head(g, x, "layer")

"""GPT-2: embeddings of positions, LayerNorms, GELU; checkpoints have matrices the other way round."""

from __future__ import annotations

from ggufpy.architectures._conversion import Config, Metadata, check_supported, count, number
from ggufpy.architectures._decoder import MOST_LAYERS, Shape, attend, head, plain
from ggufpy.architectures._names import Names, transposed
from ggufpy.errors import FormatError
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("GPT2LMHeadModel", "GPT2Model")

NAMES: Names = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "blk.{i}.attn_norm": "transformer.h.{i}.ln_1",
    "blk.{i}.attn_qkv": transposed("transformer.h.{i}.attn.c_attn"),
    "blk.{i}.attn_output": transposed("transformer.h.{i}.attn.c_proj"),
    "blk.{i}.ffn_norm": "transformer.h.{i}.ln_2",
    "blk.{i}.ffn_up": transposed("transformer.h.{i}.mlp.c_fc"),
    "blk.{i}.ffn_down": transposed("transformer.h.{i}.mlp.c_proj"),
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    check_supported(
        config,
        "GPT-2",
        activation_function=("gelu_new", "gelu_pytorch_tanh", "gelu_fast"),
        scale_attn_weights=(True,),
        scale_attn_by_inverse_layer_idx=(False,),
        add_cross_attention=(False,),
    )
    width, heads = count(config, "n_embd"), count(config, "n_head")
    if width % heads:
        raise FormatError(f"config.json: n_head is {heads}, it does not divide n_embd, {width}")
    return {
        "context_length": count(config, "n_positions", 1024),
        "embedding_length": width,
        "block_count": count(config, "n_layer", most=MOST_LAYERS),
        "feed_forward_length": count(config, "n_inner", 4 * width),
        "attention.head_count": heads,
        "attention.layer_norm_epsilon": number(config, "layer_norm_epsilon", 1e-5),
    }


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer."""
    shape = Shape.read(g)
    places = g.embed("position_embd", shape.width, by="place", rows=g.keys.integer("context_length"))
    x = g.embed("token_embd", shape.width) + places
    for layer in g.layers(shape.layers):
        x = x + attend(layer, layer.norm(x, "attn_norm", size="layer"), shape, None)
        x = x + plain(layer, layer.norm(x, "ffn_norm", size="layer"), "gelu")
    return head(g, x, "layer")

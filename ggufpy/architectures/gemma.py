"""Gemma: Llama with GELU, embeddings times the root of their width, heads of their own size, tied output."""

from __future__ import annotations

import math

from ggufpy.architectures._conversion import Config, Metadata, check_supported, rms_epsilon, sizes
from ggufpy.architectures._decoder import Shape, attend, gated, head
from ggufpy.architectures._names import Names, plus_one
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("GemmaForCausalLM",)

NAMES: Names = {
    "token_embd": "model.embed_tokens",
    "blk.{i}.attn_norm": plus_one("model.layers.{i}.input_layernorm"),
    "blk.{i}.attn_q": "model.layers.{i}.self_attn.q_proj",
    "blk.{i}.attn_k": "model.layers.{i}.self_attn.k_proj",
    "blk.{i}.attn_v": "model.layers.{i}.self_attn.v_proj",
    "blk.{i}.attn_output": "model.layers.{i}.self_attn.o_proj",
    "blk.{i}.ffn_norm": plus_one("model.layers.{i}.post_attention_layernorm"),
    "blk.{i}.ffn_gate": "model.layers.{i}.mlp.gate_proj",
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.up_proj",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.down_proj",
    "output_norm": plus_one("model.norm"),
    "output": "lm_head",
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; "gelu" is what released configurations call its approximation."""
    check_supported(
        config,
        "Gemma",
        hidden_act=("gelu", "gelu_pytorch_tanh"),
        hidden_activation=("gelu_pytorch_tanh",),
        use_bidirectional_attention=(False,),
    )
    rope = rope_parameters(config)
    return {
        **sizes(config, head_dim=256),
        **rope_base(rope),
        **rope_scaling(config, rope, "Gemma"),
        **rms_epsilon(config),
    }


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    x = g.embed("token_embd", shape.width, scale=math.sqrt(shape.width))
    for layer in g.layers(shape.layers):
        x = x + attend(layer, layer.norm(x, "attn_norm"), shape, rope)
        x = x + gated(layer, layer.norm(x, "ffn_norm"), "gelu")
    return head(g, x)

"""Qwen3: Llama with a norm on each head of q and k, and pairs that lie half a head apart."""

from __future__ import annotations

from ggufpy.architectures._conversion import Config, Metadata, check_supported, rms_epsilon, sizes
from ggufpy.architectures._decoder import Shape, attend, gated, head
from ggufpy.architectures._names import Names
from ggufpy.architectures._reranking import ranking_keys, score, yes_and_no
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("Qwen3ForCausalLM", "Qwen3ForSequenceClassification")

NAMES: Names = {
    "token_embd": "model.embed_tokens",
    "blk.{i}.attn_norm": "model.layers.{i}.input_layernorm",
    "blk.{i}.attn_q": "model.layers.{i}.self_attn.q_proj",
    "blk.{i}.attn_q_norm": "model.layers.{i}.self_attn.q_norm",
    "blk.{i}.attn_k": "model.layers.{i}.self_attn.k_proj",
    "blk.{i}.attn_k_norm": "model.layers.{i}.self_attn.k_norm",
    "blk.{i}.attn_v": "model.layers.{i}.self_attn.v_proj",
    "blk.{i}.attn_output": "model.layers.{i}.self_attn.o_proj",
    "blk.{i}.ffn_norm": "model.layers.{i}.post_attention_layernorm",
    "blk.{i}.ffn_gate": "model.layers.{i}.mlp.gate_proj",
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.up_proj",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.down_proj",
    "output_norm": "model.norm",
    "output": "lm_head",
    "cls.output": (yes_and_no("lm_head"), yes_and_no("model.embed_tokens"), score("score")),
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    return {**hyperparameters(config, head_dim=128), **ranking_keys(config)}


def hyperparameters(config: Config, head_dim: int | None = None) -> Metadata:
    """Keys of all models with this attention; they cannot say that layers have a window."""
    check_supported(config, "Qwen3", hidden_act=("silu", "swish"), use_sliding_window=(False,))
    rope = rope_parameters(config)
    return {
        **sizes(config, head_dim=head_dim),
        **rope_base(rope),
        **rms_epsilon(config),
        **rope_scaling(config, rope, "Qwen3"),
    }


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer; norms of heads before RoPE."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        x = x + attend(layer, layer.norm(x, "attn_norm"), shape, rope, norms="rms")
        x = x + gated(layer, layer.norm(x, "ffn_norm"), "silu")
    return head(g, x, shares=True)

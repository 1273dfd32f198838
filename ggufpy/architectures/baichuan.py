"""Baichuan: Llama with one matrix for q, k and v; the 13B model has ALiBi in place of RoPE."""

from __future__ import annotations

from collections.abc import Callable

from ggufpy.architectures import internlm2
from ggufpy.architectures._conversion import Config, Metadata, check_supported
from ggufpy.architectures._decoder import Shape, attend, gated, head
from ggufpy.architectures._names import Names, Place, pairs, rows, unit_rows, when
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("BaichuanForCausalLM", "BaiChuanForCausalLM")

_PACK = "model.layers.{i}.self_attn.W_pack"
_VOCABULARY_2 = 125696  # of Baichuan 2, which divides the rows of its head by their lengths
# Layers of 7B and 13B, by which llama.cpp, too, tells whether a model has RoPE or ALiBi.
_WITH_ROPE, _WITH_ALIBI = 32, 40
_MAX_BIAS = 8.0


def _third(number: int) -> Callable[[Place], slice]:
    def which(place: Place) -> slice:
        width = place.count("embedding_length")
        return slice(number * width, (number + 1) * width)

    return which


NAMES: Names = {
    "token_embd": "model.embed_tokens",
    "blk.{i}.attn_norm": "model.layers.{i}.input_layernorm",
    "blk.{i}.attn_q": pairs(rows(_PACK, _third(0)), "attention.head_count"),
    "blk.{i}.attn_k": pairs(rows(_PACK, _third(1)), "attention.head_count_kv"),
    "blk.{i}.attn_v": rows(_PACK, _third(2)),
    "blk.{i}.attn_output": "model.layers.{i}.self_attn.o_proj",
    "blk.{i}.ffn_norm": "model.layers.{i}.post_attention_layernorm",
    "blk.{i}.ffn_gate": "model.layers.{i}.mlp.gate_proj",
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.up_proj",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.down_proj",
    "output_norm": "model.norm",
    "output": (when(lambda p: p.config["vocab_size"] == _VOCABULARY_2, unit_rows("lm_head")), "lm_head"),
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; raises UnsupportedModelError where they do not say which model it is."""
    check_supported(config, "Baichuan", num_hidden_layers=(_WITH_ROPE, _WITH_ALIBI))
    return internlm2.hyperparameters(config, "Baichuan")


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer; models of other sizes have no positions at all."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=False)
    turns = rope if shape.layers == _WITH_ROPE else None
    max_bias = _MAX_BIAS if shape.layers == _WITH_ALIBI else 0.0
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        x = x + attend(layer, layer.norm(x, "attn_norm"), shape, turns, max_bias=max_bias)
        x = x + gated(layer, layer.norm(x, "ffn_norm"), "silu")
    return head(g, x)

"""Llama 1 to 3, Mistral, Mixtral, and all that share their layout: RMSNorm, gated SiLU, GQA, RoPE."""

from __future__ import annotations

from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    expert_keys,
    head_size,
    rms_epsilon,
    sizes,
    windows_of_layers,
)
from ggufpy.architectures._decoder import MOST_LAYERS, Shape, experts, gated, head, qkv, swiglu, windows
from ggufpy.architectures._names import Names, constant, pairs, stack
from ggufpy.architectures._rope_keys import llama3_factors, rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM", "MixtralForCausalLM")

_EXPERTS = "model.layers.{i}.block_sparse_moe"

NAMES: Names = {
    "token_embd": "model.embed_tokens",
    "rope_freqs.weight": constant(llama3_factors),
    "blk.{i}.attn_norm": "model.layers.{i}.input_layernorm",
    "blk.{i}.ffn_norm": "model.layers.{i}.post_attention_layernorm",
    # The second names are Mistral's and Meta's own, of rows that are in order.
    "blk.{i}.attn_q": (
        pairs("model.layers.{i}.self_attn.q_proj", "attention.head_count"),
        "layers.{i}.attention.wq",
    ),
    "blk.{i}.attn_k": (
        pairs("model.layers.{i}.self_attn.k_proj", "attention.head_count_kv"),
        "layers.{i}.attention.wk",
    ),
    "blk.{i}.attn_v": "model.layers.{i}.self_attn.v_proj",
    "blk.{i}.attn_output": "model.layers.{i}.self_attn.o_proj",
    "blk.{i}.ffn_gate": "model.layers.{i}.mlp.gate_proj",
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.up_proj",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.down_proj",
    "blk.{i}.ffn_gate_inp": _EXPERTS + ".gate",
    "blk.{i}.ffn_gate_exps": stack(_EXPERTS + ".experts.{e}.w1"),
    "blk.{i}.ffn_up_exps": stack(_EXPERTS + ".experts.{e}.w3"),
    "blk.{i}.ffn_down_exps": stack(_EXPERTS + ".experts.{e}.w2"),
    "output_norm": "model.norm",
    "output": "lm_head",
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; raises UnsupportedModelError for variants that the keys cannot express."""
    # llama3 scaling becomes the tensor rope_freqs.
    scaling = rope_scaling(config, rope_parameters(config), "Llama", others=("llama3",))
    return {**hyperparameters(config), **scaling}


def hyperparameters(config: Config) -> Metadata:
    """All keys but those of RoPE scaling."""
    check_supported(config, "Llama", hidden_act=("silu", "swish"), partial_rotary_factor=(1,))
    return {
        **sizes(config),
        "rope.dimension_count": head_size(config),
        **rope_base(rope_parameters(config)),
        **rms_epsilon(config),
        "vocab_size": count(config, "vocab_size"),
        **_experts(config),
        **_windows(config),
    }


def _experts(config: Config) -> Metadata:
    """Mixtral's, which are as wide as the configuration says of its feed-forward network."""
    if config.get("num_local_experts") is None:
        return {}
    keys = expert_keys(config, "intermediate_size")
    return {key: keys[key] for key in ("expert_count", "expert_used_count")}


def _windows(config: Config) -> Metadata:
    """Mistral's, which llama.cpp does not read; a window as long as the context is none."""
    (name,) = config["architectures"]
    window = config.get("sliding_window")
    if name.lower().startswith("llama") or window is None or window == config["max_position_embeddings"]:
        return {}
    return windows_of_layers(config, every=MOST_LAYERS + 1)


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer with grouped attention, rotary positions and a gated feed-forward network."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=False)
    temperature = g.keys.number("attention.temperature_scale", 0.0)
    causal = g.keys.flag("attention.causal", True)
    has_experts = g.keys.integer("expert_count", 0, least=0) > 0
    x = g.embed("token_embd", shape.width)
    for layer, window in zip(g.layers(shape.layers), windows(g, shape, every=MOST_LAYERS + 1), strict=True):
        q, k, v = qkv(layer, layer.norm(x, "attn_norm"), shape)
        q, k = (layer.rope(y, rope, "rope_freqs.weight") for y in (q, k))
        y = layer.attention(
            q,
            layer.keep(k, v, window),
            causal=causal,
            temperature=temperature,
            temperature_length=rope.original_context,
        )
        x = x + layer.linear(y.flat(), "attn_output", outputs=shape.width)
        h = layer.norm(x, "ffn_norm")
        x = x + (experts(layer, h, swiglu, normalize=True) if has_experts else gated(layer, h, "silu"))
    return head(g, x)

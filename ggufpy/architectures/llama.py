"""Llama 1 to 3, Mistral, and all that share their layout: RMSNorm, gated SiLU, GQA, RoPE."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.architectures._conversion import Slot, constant, count, fill, number
from ggufpy.architectures._decoder import Shape, gated, head, qkv
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.values import Typed, Value
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM")

# Buffers that old checkpoints carry; they follow from the configuration.
_BUFFERS = (".rotary_emb.inv_freq", ".rotary_emb.cos_cached", ".rotary_emb.sin_cached")


def metadata(config: Mapping[str, Any]) -> dict[str, Value | Typed]:
    """`config.json` as GGUF keys; raises UnsupportedModelError for variants that the keys cannot express."""
    return {**hyperparameters(config), **_rope_scaling(config)}


def hyperparameters(config: Mapping[str, Any]) -> dict[str, Value | Typed]:
    """All keys but those of RoPE scaling."""
    _check_supported(config)
    heads = count(config, "num_attention_heads")
    size = _head_size(config)
    return {
        "context_length": count(config, "max_position_embeddings"),
        "embedding_length": count(config, "hidden_size"),
        "block_count": count(config, "num_hidden_layers"),
        "feed_forward_length": count(config, "intermediate_size"),
        "attention.head_count": heads,
        "attention.head_count_kv": count(config, "num_key_value_heads", heads),
        "attention.key_length": size,
        "attention.value_length": size,
        "rope.dimension_count": size,
        "rope.freq_base": number(rope_parameters(config), "rope_theta"),
        "attention.layer_norm_rms_epsilon": number(config, "rms_norm_eps", 1e-6),
        "vocab_size": count(config, "vocab_size"),
    }


def convert_tensors(config: Mapping[str, Any], tensors: Mapping[str, TensorSource]) -> list[TensorSource]:
    """Rename, reorder q and k for RoPE, add RoPE's factors where Llama 3 scales it."""
    weights = {name: tensor for name, tensor in tensors.items() if not name.endswith(_BUFFERS)}
    if config.get("tie_word_embeddings"):
        weights.pop("lm_head.weight", None)
    placed = fill(_slots(config), weights)
    rope = rope_parameters(config)
    if rope["rope_type"] == "llama3":
        placed.insert(1, constant("rope_freqs.weight", _llama3_factors(config, rope)))
    return placed


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer with grouped attention, rotary positions and a gated feed-forward network."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=False)
    temperature = g.keys.number("attention.temperature_scale", 0.0)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        q, k, v = qkv(layer, layer.norm(x, "attn_norm"), shape)
        q, k = (layer.rope(y, rope, "rope_freqs.weight") for y in (q, k))
        y = layer.attention(
            q, layer.keep(k, v), temperature=temperature, temperature_length=rope.original_context
        )
        x = x + layer.linear(y.flat(), "attn_output")
        x = x + gated(layer, layer.norm(x, "ffn_norm"), "silu")
    return head(g, x)


def rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """RoPE's parameters in one spelling, that of transformers 5.

    Before it, `rope_parameters` was `rope_scaling`, with `rope_theta` beside it, and `rope_type` was `type`.
    """
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, dict):
        raise FormatError(f"config.json: rope_parameters is {given!r:.40}, it must be an object")
    theta = config.get("rope_theta") or 10000.0
    return {"rope_theta": theta, "rope_type": given.get("type") or "default", **given}


def _check_supported(config: Mapping[str, Any]) -> None:
    for key, supported in (
        ("hidden_act", ("silu", "swish", None)),
        ("partial_rotary_factor", (1, None)),
        ("quantization_config", (None,)),
    ):
        if config.get(key) not in supported:
            value = config[key].get("quant_method") if isinstance(config[key], dict) else config[key]
            raise UnsupportedModelError(f"config.json: {key} {value!r:.40} is not supported for Llama models")


def _head_size(config: Mapping[str, Any]) -> int:
    hidden, heads = count(config, "hidden_size"), count(config, "num_attention_heads")
    if heads % count(config, "num_key_value_heads", heads):
        raise FormatError("config.json: num_key_value_heads does not divide num_attention_heads")
    size = count(config, "head_dim", hidden // heads)
    if size % 2:
        raise FormatError(f"config.json: heads of size {size} cannot be rotated, it must be even")
    return size


def _slots(config: Mapping[str, Any]) -> Iterator[Slot]:
    hidden, inner = count(config, "hidden_size"), count(config, "intermediate_size")
    heads, size = count(config, "num_attention_heads"), _head_size(config)
    kv_heads = count(config, "num_key_value_heads", heads)
    vocabulary = (count(config, "vocab_size"), hidden)
    # (name in the checkpoint, name in GGUF, rows, columns, heads to reorder)
    linears: tuple[tuple[str, str, int, int, int | None], ...] = (
        ("self_attn.q_proj", "attn_q", heads * size, hidden, heads),
        ("self_attn.k_proj", "attn_k", kv_heads * size, hidden, kv_heads),
        ("self_attn.v_proj", "attn_v", kv_heads * size, hidden, None),
        ("self_attn.o_proj", "attn_output", hidden, heads * size, None),
        ("mlp.gate_proj", "ffn_gate", inner, hidden, None),
        ("mlp.up_proj", "ffn_up", inner, hidden, None),
        ("mlp.down_proj", "ffn_down", hidden, inner, None),
    )
    yield Slot("model.embed_tokens.weight", "token_embd.weight", vocabulary)
    for layer in range(count(config, "num_hidden_layers")):
        hf, name = f"model.layers.{layer}.", f"blk.{layer}."
        yield Slot(hf + "input_layernorm.weight", name + "attn_norm.weight", (hidden,))
        yield Slot(hf + "post_attention_layernorm.weight", name + "ffn_norm.weight", (hidden,))
        for theirs, ours, rows, columns, reorder in linears:
            yield Slot(f"{hf}{theirs}.weight", f"{name}{ours}.weight", (rows, columns), heads=reorder)
            yield Slot(f"{hf}{theirs}.bias", f"{name}{ours}.bias", (rows,), optional=True, heads=reorder)
    yield Slot("model.norm.weight", "output_norm.weight", (hidden,))
    # A checkpoint that neither ties nor has an output matrix can only mean to tie.
    yield Slot("lm_head.weight", "output.weight", vocabulary, optional=True)


def _rope_scaling(config: Mapping[str, Any]) -> dict[str, Value | Typed]:
    rope = rope_parameters(config)
    match rope["rope_type"]:
        case "linear":
            return {"rope.scaling.type": "linear", "rope.scaling.factor": number(rope, "factor")}
        case "yarn":
            return yarn_scaling(config, log_multiplier=0.0)
        # llama3 becomes a tensor; dynamic scaling starts where the file's context ends.
        case "default" | "llama3" | "dynamic":
            return {}
    kind = rope["rope_type"]
    raise UnsupportedModelError(f"config.json: RoPE scaling {kind!r:.40} is not supported for Llama models")


def yarn_scaling(config: Mapping[str, Any], *, log_multiplier: float) -> dict[str, Value | Typed]:
    """The keys of YaRN.

    The runtime scales cos and sin by m(1) / m(log_multiplier), m(x) = 1 + 0.1 x ln(factor), and by
    attn_factor, which is written where a checkpoint asks for another scale than that. Source: transformers
    modeling_rope_utils.py, _compute_yarn_parameters; llama.cpp llama-context.cpp.
    """
    rope = rope_parameters(config)
    factor = number(rope, "factor")
    original = count(rope, "original_max_position_embeddings", count(config, "max_position_embeddings"))
    keys: dict[str, Value | Typed] = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": original,
    }

    def scale(multiplier: float) -> float:
        return 1 + 0.1 * multiplier * math.log(max(factor, 1))

    wanted = scale(1)
    if rope.get("attention_factor") is not None:
        wanted = number(rope, "attention_factor")
    elif rope.get("mscale") and rope.get("mscale_all_dim"):
        wanted = scale(number(rope, "mscale")) / scale(number(rope, "mscale_all_dim"))
    attn_factor = wanted * scale(log_multiplier) / scale(1)
    if not math.isclose(attn_factor, 1, rel_tol=1e-6):
        keys["rope.scaling.attn_factor"] = attn_factor
    for theirs, ours in (("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")):
        if rope.get(theirs) is not None:
            keys[f"rope.scaling.{ours}"] = number(rope, theirs)
    return keys


def _llama3_factors(config: Mapping[str, Any], rope: Mapping[str, Any]) -> NDArray[np.float32]:
    """What each frequency is divided by: 1 for short wavelengths, `factor` for long ones, a mean between.

    Returns (head size / 2,). Source: transformers modeling_rope_utils.py, _compute_llama3_parameters.
    """
    size, factor = _head_size(config), number(rope, "factor")
    low, high = number(rope, "low_freq_factor"), number(rope, "high_freq_factor")
    if low >= high:
        raise FormatError(
            f"config.json: low_freq_factor is {low:g}, it must be below high_freq_factor {high:g}"
        )
    original = count(rope, "original_max_position_embeddings", count(config, "max_position_embeddings"))
    wavelengths = 2 * np.pi * number(rope, "rope_theta") ** (np.arange(0, size, 2) / size)
    smooth = np.clip((original / wavelengths - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)

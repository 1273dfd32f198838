"""A tiny random model of each architecture, of odd sizes, scaled so that attention matters.

Matrices are of block types, so that all regimes of a linear have work to do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import random_llama
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from numpy.typing import NDArray

from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.gguf.values import Value
from ggufpy.gguf.writer import write_gguf

VOCAB, WIDTH, INNER, LAYERS = 96, 128, 160, 2
HEADS, KV_HEADS, HEAD = 4, 2, 32
EXPERTS = 6

Shapes = Mapping[str, tuple[int, ...]]

# Types that take turns. Those with minimums read the sums of activations, too.
TYPES = (GGMLType.Q4_1, GGMLType.Q8_0, GGMLType.Q5_0, GGMLType.F32, GGMLType.Q5_1, GGMLType.F16)


@dataclass(frozen=True)
class Tiny:
    """Keys without the architecture's prefix, and shapes of the tensors of each layer and of the whole.

    scales: what some tensors are multiplied with, so that they matter.
    """

    keys: Mapping[str, Value]
    layer: Shapes
    whole: Shapes = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)


def attention(bias: bool = False, norms: bool = False) -> Shapes:
    shapes: dict[str, tuple[int, ...]] = {"attn_norm.weight": (WIDTH,)}
    for name, rows, columns in (
        ("attn_q", HEADS * HEAD, WIDTH),
        ("attn_k", KV_HEADS * HEAD, WIDTH),
        ("attn_v", KV_HEADS * HEAD, WIDTH),
        ("attn_output", WIDTH, HEADS * HEAD),
    ):
        shapes[f"{name}.weight"] = rows, columns
        if bias:
            shapes[f"{name}.bias"] = (rows,)
    return shapes | dict.fromkeys(("attn_q_norm.weight", "attn_k_norm.weight"), (HEAD,)) if norms else shapes


def dense(bias: bool = False) -> Shapes:
    shapes: dict[str, tuple[int, ...]] = {"ffn_norm.weight": (WIDTH,)}
    for name, rows, columns in (("gate", INNER, WIDTH), ("up", INNER, WIDTH), ("down", WIDTH, INNER)):
        shapes[f"ffn_{name}.weight"] = rows, columns
        if bias:
            shapes[f"ffn_{name}.bias"] = (rows,)
    return shapes


def experts(bias: bool = False) -> Shapes:
    shapes: dict[str, tuple[int, ...]] = {"ffn_gate_inp.weight": (EXPERTS, WIDTH)}
    if bias:
        shapes["ffn_gate_inp.bias"] = (EXPERTS,)
    for name, rows, columns in (("gate", INNER, WIDTH), ("up", INNER, WIDTH), ("down", WIDTH, INNER)):
        shapes[f"ffn_{name}_exps.weight"] = EXPERTS, rows, columns
        if bias:
            shapes[f"ffn_{name}_exps.bias"] = EXPERTS, rows
    return shapes


def mixer(groups: int, states: int, heads: int) -> Shapes:
    inner, mixed = 2 * WIDTH, 2 * WIDTH + 2 * groups * states
    return {
        "attn_norm.weight": (WIDTH,),
        "ssm_in.weight": (inner + mixed + heads, WIDTH),
        "ssm_conv1d.weight": (mixed, 4),
        "ssm_conv1d.bias": (mixed,),
        "ssm_dt.bias": (heads,),
        "ssm_a": (heads, 1),
        "ssm_d": (heads, 1),
        "ssm_norm.weight": (groups, inner // groups),
        "ssm_out.weight": (WIDTH, inner),
    }


def net(layer: int, groups: int, states: int, heads: int) -> Shapes:
    """A gated delta net, in one layer only."""
    inner, mixed = 2 * WIDTH, 2 * WIDTH + 2 * groups * states
    shapes = {
        "ssm_in.weight": (mixed + inner, WIDTH),
        "ssm_ba.weight": (2 * heads, WIDTH),
        "ssm_conv1d.weight": (mixed, 4),
        "ssm_dt.bias": (heads,),
        "ssm_a": (heads,),
        "ssm_norm.weight": (inner // heads,),
        "ssm_out.weight": (WIDTH, inner),
    }
    return {f"blk.{layer}.{name}": shape for name, shape in shapes.items()}


ATTENTION: Mapping[str, Value] = {
    "attention.head_count": HEADS,
    "attention.head_count_kv": KV_HEADS,
    "attention.key_length": HEAD,
    "attention.value_length": HEAD,
}
WINDOWS: Mapping[str, Value] = {
    "attention.sliding_window": 8,
    "attention.sliding_window_pattern": [True, False],
}
CHOICE: Mapping[str, Value] = {"expert_count": EXPERTS, "expert_used_count": 2}
YARN: Mapping[str, Value] = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 16,
    "rope.scaling.yarn_log_multiplier": 0.5,
}
SSM: Mapping[str, Value] = {
    "ssm.inner_size": 2 * WIDTH,
    "ssm.conv_kernel": 4,
    "ssm.state_size": 24,
    "ssm.time_step_rank": 8,
    "ssm.group_count": 2,
}
OUTPUT: Shapes = {"output.weight": (VOCAB, WIDTH)}

MODELS: Mapping[str, Tiny] = {
    "deepseek2": Tiny(
        {
            **CHOICE,
            "attention.head_count": HEADS,
            "attention.head_count_kv": 1,
            "attention.key_length": 64 + 8,
            "attention.value_length": 64,
            "attention.key_length_mla": HEAD + 8,
            "attention.value_length_mla": HEAD,
            "attention.kv_lora_rank": 64,
            "attention.q_lora_rank": 96,
            "rope.dimension_count": 8,
            "expert_feed_forward_length": INNER,
            "expert_gating_func": 2,
            "expert_group_count": 3,
            "expert_group_used_count": 2,
            "expert_weights_norm": True,
            "expert_weights_scale": 2.5,
        },
        {
            **experts(),
            "exp_probs_b.bias": (EXPERTS,),
            "attn_norm.weight": (WIDTH,),
            "attn_q_a.weight": (96, WIDTH),
            "attn_q_a_norm.weight": (96,),
            "attn_q_b.weight": (HEADS * (HEAD + 8), 96),
            "attn_kv_a_mqa.weight": (64 + 8, WIDTH),
            "attn_kv_a_norm.weight": (64,),
            "attn_k_b.weight": (HEADS, 64, HEAD),
            "attn_v_b.weight": (HEADS, HEAD, 64),
            "attn_output.weight": (WIDTH, HEADS * HEAD),
            "ffn_norm.weight": (WIDTH,),
        },
        OUTPUT,
        {"attn_q_b": 2},
    ),
    "gemma2": Tiny(
        {**ATTENTION, **WINDOWS, "attn_logit_softcapping": 2.0},
        {
            **attention(),
            **dense(),
            "post_attention_norm.weight": (WIDTH,),
            "post_ffw_norm.weight": (WIDTH,),
        },
    ),
    "gemma3": Tiny(
        {**ATTENTION, **WINDOWS, "rope.freq_base_swa": 500.0, "final_logit_softcapping": 3.0},
        {
            **attention(norms=True),
            **dense(),
            "post_attention_norm.weight": (WIDTH,),
            "post_ffw_norm.weight": (WIDTH,),
        },
    ),
    "gemma3n": Tiny(
        {
            **ATTENTION,
            **WINDOWS,
            "altup.num_inputs": 3,
            "attention.shared_kv_layers": 0,
            "embedding_length_per_layer_input": 32,
            "feed_forward_length": INNER,
            "activation_sparsity_scale": [0.5, -math.inf],
            "laurel.rank": 32,
        },
        {
            **attention(norms=True),
            **dense(),
            **{f"{name}.weight": (WIDTH,) for name in ("post_attention_norm", "post_ffw_norm", "post_norm")},
            **{f"{name}.weight": (WIDTH,) for name in ("laurel_post_norm", "altup_router_norm")},
            "laurel_l.weight": (32, WIDTH),
            "laurel_r.weight": (WIDTH, 32),
            "altup_router.weight": (3, WIDTH),
            "altup_predict_coef.weight": (9, 3),
            "altup_correct_coef.weight": (3, 3),
            "altup_correct_scale.weight": (WIDTH,),
            "inp_gate.weight": (32, WIDTH),
            "proj.weight": (WIDTH, 32),
        },
        {
            "altup_proj.weight": (2, WIDTH, WIDTH),
            "altup_unembd_proj.weight": (2, WIDTH, WIDTH),
            "per_layer_token_embd.weight": (VOCAB, LAYERS * 32),
            "per_layer_model_proj.weight": (LAYERS * 32, WIDTH),
            "per_layer_proj_norm.weight": (32,),
        },
        {
            "attn_q_norm": HEAD**-0.5,
            "altup_router_norm": WIDTH,
            **dict.fromkeys(("post_attention_norm", "post_ffw_norm", "post_norm"), 6),
        },
    ),
    "gemma4": Tiny(
        {
            **ATTENTION,
            "attention.key_length_swa": HEAD,
            "attention.sliding_window": 8,
            "attention.sliding_window_pattern": [False, False],
            "attention.shared_kv_layers": 1,
            "embedding_length_per_layer_input": 32,
        },
        {
            **{name: shape for name, shape in attention().items() if name[5:7] not in ("k.", "v.")},
            **dense(),
            **{f"post_{name}.weight": (WIDTH,) for name in ("attention_norm", "ffw_norm", "norm")},
            "attn_q_norm.weight": (HEAD,),
            "inp_gate.weight": (32, WIDTH),
            "proj.weight": (WIDTH, 32),
            "layer_output_scale.weight": (1,),
        },
        {
            "blk.0.attn_k.weight": (KV_HEADS * HEAD, WIDTH),
            "blk.0.attn_k_norm.weight": (HEAD,),
            "per_layer_token_embd.weight": (VOCAB, LAYERS * 32),
            "per_layer_model_proj.weight": (LAYERS * 32, WIDTH),
            "per_layer_proj_norm.weight": (32,),
            "rope_freqs.weight": (HEAD // 2,),
        },
        {"attn_q_norm": HEAD**-0.5},
    ),
    "gpt-oss": Tiny(
        {**ATTENTION, **WINDOWS, **CHOICE},
        {
            **attention(bias=True),
            **experts(bias=True),
            "post_attention_norm.weight": (WIDTH,),
            "attn_sinks.weight": (HEADS,),
        },
        OUTPUT,
    ),
    "llama": Tiny(ATTENTION, {**attention(), **dense()}, {**OUTPUT, "rope_freqs.weight": (HEAD // 2,)}),
    "llama4": Tiny(
        {
            **ATTENTION,
            **CHOICE,
            "expert_feed_forward_length": INNER,
            "interleave_moe_layer_step": 1,
            "attention.chunk_length": 24,
        },
        {
            **attention(),
            **experts(),
            **{f"ffn_{name}_shexp.weight": (INNER, WIDTH) for name in ("gate", "up")},
            "ffn_down_shexp.weight": (WIDTH, INNER),
            "ffn_norm.weight": (WIDTH,),
        },
        OUTPUT,
    ),
    "mamba2": Tiny(SSM, mixer(groups=2, states=24, heads=8), OUTPUT),
    "mistral3": Tiny(
        {**ATTENTION, **YARN, "attention.temperature_scale": 0.3},
        {**attention(bias=True), **dense(bias=True)},
        OUTPUT,
    ),
    "phimoe": Tiny(
        {
            **ATTENTION,
            **CHOICE,
            "attention.layer_norm_epsilon": 1e-5,
            "expert_router_jitter": 0.3,
            "rope.scaling.original_context_length": 64,
        },
        {**attention(bias=True), **experts(), "attn_norm.bias": (WIDTH,), "ffn_norm.weight": (WIDTH,)},
        {
            **OUTPUT,
            "output.bias": (VOCAB,),
            "rope_factors_long.weight": (HEAD // 2,),
            "rope_factors_short.weight": (HEAD // 2,),
        },
    ),
    "qwen3": Tiny(ATTENTION, {**attention(norms=True), **dense()}),
    "qwen3next": Tiny(
        {**ATTENTION, **CHOICE, **SSM, "rope.dimension_count": 8, "full_attention_interval": 2},
        {
            **experts(),
            **{f"{name}.weight": (WIDTH,) for name in ("attn_norm", "post_attention_norm")},
            "ffn_gate_inp_shexp.weight": (WIDTH,),
            "ffn_gate_shexp.weight": (INNER, WIDTH),
            "ffn_up_shexp.weight": (INNER, WIDTH),
            "ffn_down_shexp.weight": (WIDTH, INNER),
        },
        {
            **OUTPUT,
            **net(0, groups=2, states=24, heads=8),
            "blk.1.attn_q.weight": (2 * HEADS * HEAD, WIDTH),
            "blk.1.attn_k.weight": (KV_HEADS * HEAD, WIDTH),
            "blk.1.attn_v.weight": (KV_HEADS * HEAD, WIDTH),
            "blk.1.attn_output.weight": (WIDTH, HEADS * HEAD),
            **{f"blk.1.attn_{name}_norm.weight": (HEAD,) for name in "qk"},
        },
    ),
    "qwen3moe": Tiny(
        {**ATTENTION, **CHOICE},
        {
            **attention(norms=True),
            **experts(),
            "ffn_norm.weight": (WIDTH,),
            "ffn_down_exps.scale": (EXPERTS,),
        },
        OUTPUT,
    ),
}


def write(path: Path, name: str, changed: Mapping[str, Value] | None = None) -> Path:
    """Write the model of an architecture, with some keys changed, and return its path."""
    model = MODELS[name]
    values = random_llama.vocabulary(VOCAB) | {
        "general.architecture": name,
        f"{name}.block_count": LAYERS,
        f"{name}.context_length": 4096,
        f"{name}.embedding_length": WIDTH,
        f"{name}.attention.layer_norm_rms_epsilon": 1e-5,
    }
    values |= {f"{name}.{key}": value for key, value in {**model.keys, **(changed or {})}.items()}
    write_gguf(path, values, list(tensors(model, np.random.default_rng(0))))
    return path


def tensors(model: Tiny, rng: np.random.Generator) -> Iterator[TensorSource]:
    whole = {"token_embd.weight": (VOCAB, WIDTH), "output_norm.weight": (WIDTH,), **model.whole}
    layers = {f"blk.{i}.{name}": shape for i in range(LAYERS) for name, shape in model.layer.items()}
    turn = 0
    for name, shape in {**whole, **layers}.items():
        stem = name.removesuffix(".weight").split(".")[-1]
        values = weights(rng, stem, shape) * np.float32(model.scales.get(stem, 1))
        is_matrix = len(shape) > 1 and shape[-1] % 32 == 0 and "norm" not in name
        turn += is_matrix
        yield source(name, values, TYPES[turn % len(TYPES)] if is_matrix else GGMLType.F32)


def weights(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Random values that a tensor of that name may have."""
    x = rng.standard_normal(shape, np.float32)
    match name:
        case "ssm_a":
            decay: NDArray[np.float32] = -np.exp(x / 2)
            return decay
        case "rope_freqs" | "rope_factors_long" | "rope_factors_short":
            return 1 + np.abs(x)
        case "token_embd":
            return x
        case "attn_q" | "attn_k" | "ffn_gate_inp" if len(shape) > 1:
            return x * np.float32(2 / math.sqrt(shape[-1]))
        case "ffn_gate_exps" | "ffn_up_exps" if len(shape) == 3:
            return x * np.float32(4 / math.sqrt(shape[-1]))  # beyond what gpt-oss limits
    if "norm" in name or "scale" in name or name == "ssm_d":
        return 1 + np.float32(0.2) * x
    return x * np.float32(1.5 / math.sqrt(shape[-1])) if len(shape) > 1 else np.float32(0.3) * x


def source(name: str, values: NDArray[np.float32], type: GGMLType) -> TensorSource:
    """An array as a tensor of that type."""
    rows = quantize(values.reshape(-1, values.shape[-1]), GGMLQuantizationType(type)).view(np.uint8)
    return TensorSource(name, values.shape, type, lambda start, stop: rows[start:stop])

"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values of all heads from one latent.

What is kept of a token is the latent and one key that turns; queries are brought into the latent's space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ggufpy.architectures._conversion import Config, Metadata, check_supported, count, number
from ggufpy.architectures._decoder import Shape
from ggufpy.architectures._names import Names, Place, Way, reshaped, rows, transposed
from ggufpy.architectures._rope_keys import yarn_scaling
from ggufpy.errors import UnsupportedModelError
from ggufpy.graph import Graph, Layer, Value
from ggufpy.graph.rope import Rope

_EPSILON = 1e-6  # of the norms of latents, whatever that of others
_ATTENTION = "model.layers.{i}.self_attn."


def _unturned(place: Place) -> int:
    return place.count("attention.key_length_mla") - place.count("rope.dimension_count")


def _of_heads() -> Way:
    """The matrices of each head, of keys above those of values: (heads, both, rank)."""

    def shape(place: Place) -> tuple[int, int, int]:
        both = _unturned(place) + place.count("attention.value_length_mla")
        return place.count("attention.head_count"), both, place.count("attention.kv_lora_rank")

    return reshaped(_ATTENTION + "kv_b_proj", shape)


LATENT: Names = {
    "blk.{i}.attn_q": _ATTENTION + "q_proj",
    "blk.{i}.attn_q_a": _ATTENTION + "q_a_proj",
    "blk.{i}.attn_q_a_norm": _ATTENTION + "q_a_layernorm",
    "blk.{i}.attn_q_b": _ATTENTION + "q_b_proj",
    "blk.{i}.attn_kv_a_mqa": _ATTENTION + "kv_a_proj_with_mqa",
    "blk.{i}.attn_kv_a_norm": _ATTENTION + "kv_a_layernorm",
    "blk.{i}.attn_k_b": transposed(rows(_of_heads(), lambda place: slice(_unturned(place)))),
    "blk.{i}.attn_v_b": rows(_of_heads(), lambda place: slice(_unturned(place), None)),
    "blk.{i}.attn_output": _ATTENTION + "o_proj",
}


def latent_sizes(config: Config) -> Metadata:
    """Keys of the sizes; those of attention as it is computed, with one head of keys, come first.

    The epsilon of latents is a key of our own: llama.cpp has one for all norms.
    """
    turned, rank = count(config, "qk_rope_head_dim"), count(config, "kv_lora_rank")
    keys: Metadata = {
        "attention.head_count_kv": 1,
        "attention.key_length": rank + turned,
        "attention.value_length": rank,
        "attention.key_length_mla": count(config, "qk_nope_head_dim") + turned,
        "attention.value_length_mla": count(config, "v_head_dim"),
        "attention.kv_lora_rank": rank,
        "rope.dimension_count": turned,
    }
    if number(config, "rms_norm_eps", _EPSILON) != _EPSILON:
        keys["attention.latent_norm_rms_epsilon"] = _EPSILON
    if config.get("q_lora_rank") is not None:
        keys["attention.q_lora_rank"] = count(config, "q_lora_rank")
    return keys


def latent_yarn(config: Config, rope: Mapping[str, Any], model: str) -> Metadata:
    """Keys of YaRN, whose magnitude is in the scores; the key has a tenth of the multiplier.

    Source: llama.cpp src/models/deepseek2.cpp. Raises UnsupportedModelError where it is elsewhere, too.
    """
    check_supported(rope, model, attention_factor=(1,))
    if rope.get("mscale") != rope.get("mscale_all_dim") or not rope.get("mscale"):
        found = f"mscale {rope.get('mscale')} and mscale_all_dim {rope.get('mscale_all_dim')}"
        raise UnsupportedModelError(f"config.json: {found} in a {model}, they must be there and the same")
    keys = yarn_scaling(config, rope, log_multiplier=1.0)
    return {**keys, "rope.scaling.yarn_log_multiplier": 0.1 * number(rope, "mscale_all_dim")}


@dataclass(frozen=True, slots=True)
class Latent:
    """Sizes of latent attention, and how positions change it.

    rank: of the latent. key_length, value_length: of a head. temperature: as of `Graph.attention`.
    """

    rank: int
    key_length: int
    value_length: int
    rope: Rope
    scale: float
    temperature: float
    temperature_length: int

    @classmethod
    def read(cls, g: Graph) -> Latent:
        """From metadata; files of 2024 have one matrix for keys and values, and no keys for heads as here."""
        k = g.keys
        size = "_mla" if k.has("attention.key_length_mla") else ""
        key_length = k.integer(f"attention.key_length{size}", most=1 << 16)
        rope = Rope.read(k, key_length, halves=False)
        multiplier = 10 * rope.log_multiplier
        if multiplier:
            rope = replace(rope, log_multiplier=1.0)  # the magnitude is in the scores
        scale = rope.frequencies()[1] * (1 + 0.1 * multiplier * math.log(max(rope.factor, 1)))
        return cls(
            rank=k.integer("attention.kv_lora_rank", most=1 << 16),
            key_length=key_length,
            value_length=k.integer(f"attention.value_length{size}", most=1 << 16),
            rope=rope,
            scale=scale**2 / key_length**0.5,
            temperature=k.number("attention.temperature_scale", 0.0),
            temperature_length=k.integer("attention.temperature_length", rope.original_context),
        )


def attend_latent(layer: Layer, h: Value, shape: Shape, sizes: Latent) -> Value:
    """Attention from inputs to outputs; pairs that turn are neighbours."""
    heads, turned = shape.heads[layer.index], sizes.rope.dimensions
    q = _queries(layer, h, heads * sizes.key_length)
    q, q_turned = q.view(heads, sizes.key_length).split(sizes.key_length - turned, turned)
    q_turned = layer.rope(q_turned, sizes.rope)
    both = layer.linear(h, "attn_kv_a_mqa", outputs=sizes.rank + turned)
    latent, k_turned = both.view(1, sizes.rank + turned).split(sizes.rank, turned)
    k_turned = layer.rope(k_turned, sizes.rope)
    latent = _norm(layer, latent, "attn_kv_a_norm")
    is_one = layer.has("attn_kv_b.weight")
    if is_one:
        k, v = _of_all_heads(layer, latent, heads, sizes)
        k_turned = layer.concat(*[k_turned] * heads).view(heads, turned)
    else:
        k, v, q = latent, latent, _each(layer, q, "attn_k_b")
    y = layer.attention(
        layer.concat(q, q_turned),
        layer.keep(layer.concat(k, k_turned), v),
        scale=sizes.scale,
        temperature=sizes.temperature,
        temperature_length=sizes.temperature_length,
    )
    y = y if is_one else _each(layer, y, "attn_v_b")
    return layer.linear(y.flat(), "attn_output", outputs=shape.width)


def _queries(layer: Layer, h: Value, outputs: int) -> Value:
    """Of the input, or of a latent of their own."""
    if not layer.keys.has("attention.q_lora_rank"):
        return layer.linear(h, "attn_q", outputs=outputs)
    rank = layer.keys.integer("attention.q_lora_rank", most=1 << 16)
    latent = _norm(layer, layer.linear(h, "attn_q_a", outputs=rank), "attn_q_a_norm")
    return layer.linear(latent, "attn_q_b", outputs=outputs)


def _norm(layer: Layer, latent: Value, name: str) -> Value:
    key = "attention.latent_norm_rms_epsilon"
    return layer.norm(latent, name, layer.keys.number(key) if layer.keys.has(key) else None)


def _each(layer: Layer, x: Value, name: str) -> Value:
    """Each head through its own matrix; files may leave out that there is one."""
    if x.shape[0] == 1 and len(layer.shape(f"{name}.weight")) == 2:
        y = layer.linear(x, name)
        return y.view(1, y.width)
    return layer.linear_of_heads(x, name)


def _of_all_heads(layer: Layer, latent: Value, heads: int, sizes: Latent) -> tuple[Value, Value]:
    """Keys, without what turns, and values: of older files."""
    still = sizes.key_length - sizes.rope.dimensions
    both = layer.linear(latent, "attn_kv_b", outputs=heads * (still + sizes.value_length))
    k, v = both.view(heads, still + sizes.value_length).split(still, sizes.value_length)
    return k, v

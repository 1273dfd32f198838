"""Mamba 2: no attention; a convolution and a state space in each layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    layer_count,
    number,
    with_defaults,
)
from ggufpy.architectures._decoder import MOST_LAYERS, head
from ggufpy.architectures._names import Names, Place, negative_exp, reshaped, tensor
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES = ("Mamba2ForCausalLM",)


def _channels(place: Place) -> tuple[int, int]:
    """Channels of the convolution, and its places."""
    inner, states, groups = (place.count(f"ssm.{key}") for key in ("inner_size", "state_size", "group_count"))
    return inner + 2 * groups * states, place.count("ssm.conv_kernel")


def _heads(place: Place) -> tuple[int, int]:
    return place.count("ssm.time_step_rank"), 1


def _groups(place: Place) -> tuple[int, int]:
    groups = place.count("ssm.group_count")
    return groups, place.count("ssm.inner_size") // groups


def of_mixer(name: str) -> Names:
    """The tensors of a layer's mixer; name: what it is called."""
    return {
        "blk.{i}.ssm_in": f"{name}.in_proj",
        "blk.{i}.ssm_conv1d.weight": reshaped(tensor(f"{name}.conv1d.weight"), _channels),
        "blk.{i}.ssm_conv1d.bias": tensor(f"{name}.conv1d.bias"),
        "blk.{i}.ssm_dt.bias": tensor(f"{name}.dt_bias"),
        "blk.{i}.ssm_a": reshaped(negative_exp(tensor(f"{name}.A_log")), _heads),
        "blk.{i}.ssm_d": reshaped(tensor(f"{name}.D"), _heads),
        "blk.{i}.ssm_norm": reshaped(f"{name}.norm", _groups),
        "blk.{i}.ssm_out": f"{name}.out_proj",
    }


NAMES: Names = {
    "token_embd": ("backbone.embeddings", "backbone.embedding"),
    "blk.{i}.attn_norm": "backbone.layers.{i}.norm",
    **of_mixer("backbone.layers.{i}.mixer"),
    "output_norm": "backbone.norm_f",
    "output": "lm_head",
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    check_supported(config, "Mamba 2", hidden_act=("silu", "swish"), rms_norm=(True,))
    width = count(config, "hidden_size")
    inner, size = count(config, "expand", 2) * width, count(config, "head_dim", 64)
    config = with_defaults(
        config, head_dim=size, num_heads=inner // size, n_groups=8, state_size=128, conv_kernel=4
    )
    return {
        "context_length": 1 << 20,  # there is no limit
        "embedding_length": width,
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "block_count": layer_count(config),
        **state_keys(config, "Mamba 2", inner),
        "attention.layer_norm_rms_epsilon": number(config, "layer_norm_epsilon", 1e-5),
    }


# What config.json calls the heads, the values of a head, groups of heads with the same b and c, states, and
# places of the convolution.
_SIZES = ("num_heads", "head_dim", "n_groups", "state_size", "conv_kernel")
_SIZES_OF_HYBRIDS = ("mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state", "mamba_d_conv")


def state_keys(config: Config, model: str, inner: int, names: Sequence[str] = _SIZES) -> Metadata:
    """Keys of mixers of `inner` channels, which cannot say that time steps are limited.

    names: of the sizes, as above. Raises FormatError for sizes that do not fit, UnsupportedModelError.
    """
    _check_time_steps(config, model)
    heads, size, groups, states, kernel = (count(config, name) for name in names)
    if heads * size != inner or heads % groups:
        raise FormatError(
            f"config.json: {heads} heads of {size} values in {groups} groups do not fit {inner} channels"
        )
    return {
        "ssm.conv_kernel": kernel,
        "ssm.inner_size": inner,
        "ssm.state_size": states,
        "ssm.time_step_rank": heads,
        "ssm.group_count": groups,
    }


def keys_of_hybrid(config: Config, model: str) -> Metadata:
    """Keys of mixers beside attention, whose sizes have other names; all hybrids have the same defaults."""
    config = with_defaults(
        config, mamba_n_heads=128, mamba_n_groups=1, mamba_d_state=256, mamba_d_conv=4, mamba_expand=2
    )
    inner = count(config, "mamba_d_ssm", count(config, "mamba_expand") * count(config, "hidden_size"))
    if config.get("mamba_d_head", "auto") == "auto":
        config = {**config, "mamba_d_head": inner // count(config, "mamba_n_heads")}
    return state_keys(config, model, inner, _SIZES_OF_HYBRIDS)


def _check_time_steps(config: Config, model: str) -> None:
    """Limits are no limits from 0 to infinity, which transformers 5 writes as {"__float__": "Infinity"}."""
    limits = config.get("time_step_limit")
    if limits is None:
        return
    endless = (math.inf, {"__float__": "Infinity"})
    if not isinstance(limits, list) or len(limits) != 2 or limits[0] != 0 or limits[1] not in endless:
        raise UnsupportedModelError(
            f"config.json: time_step_limit {limits!r:.40} is not supported for {model} models"
        )


def forward(g: Graph) -> Outputs:
    """A mixer and nothing else in each layer."""
    x = g.embed("token_embd", g.keys.integer("embedding_length", most=1 << 20))
    for layer in g.layers(g.keys.integer("block_count", most=MOST_LAYERS)):
        x = x + mixer(layer, layer.norm(x, "attn_norm"))
    return head(g, x)


def mixer(layer: Layer, h: Value, *, has_norm: bool = True) -> Value:
    """Gate, convolved inputs and time steps from one matrix; the norm is of each group."""
    k = layer.keys
    inner, states = k.integer("ssm.inner_size"), k.integer("ssm.state_size")
    heads, groups = k.integer("ssm.time_step_rank"), k.integer("ssm.group_count")
    size, shared = inner // heads, groups * states
    channels = inner + 2 * shared
    layer.tensor("ssm_conv1d.weight", channels, k.integer("ssm.conv_kernel"))
    for name, *shape in (("ssm_a", heads, 1), ("ssm_d", heads, 1), ("ssm_dt.bias", heads)):
        layer.tensor(name, *shape)
    inputs = layer.linear(h, "ssm_in", outputs=inner + channels + heads)
    gate, mixed, dt = inputs.split(inner, channels, heads)
    u, b, c = layer.conv(mixed, "ssm_conv1d").apply("silu").split(inner, shared, shared)
    u, dt = u.view(heads, size), layer.vector(dt, "add", "ssm_dt.bias").apply("softplus")
    y = layer.scan(u, dt, b.view(groups, states), c.view(groups, states), "ssm_a")
    y = (y + layer.vector(u, "mul", "ssm_d")).flat() * gate.apply("silu")
    if has_norm:
        y = layer.norm(y.view(groups, inner // groups), "ssm_norm").flat()
    return layer.linear(y, "ssm_out", outputs=h.width)

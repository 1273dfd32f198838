"""Qwen3-Next and Qwen3.5: most layers have a gated delta net, the others attention with a gate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    kinds_of_layers,
    layer_count,
    rms_epsilon,
    sizes,
    with_predicting_layers,
)
from ggufpy.architectures._decoder import Shape, head
from ggufpy.architectures._names import Names, Place, Way, plus_one, reshaped, tensor, ways, when
from ggufpy.architectures._rope_keys import partial_rope, rope_base, rope_parameters, rope_scaling
from ggufpy.errors import FormatError
from ggufpy.graph import Graph, Layer, Outputs, Value
from ggufpy.graph.rope import Rope

NET = "model.layers.{i}.linear_attn"


def kernel(place: Place) -> tuple[int, int]:
    """Channels of the convolution, and how many places it sees."""
    keys = place.count("ssm.group_count") * place.count("ssm.state_size")
    return 2 * keys + place.count("ssm.inner_size"), place.count("ssm.conv_kernel")


CONV = reshaped(tensor(NET + ".conv1d.weight"), kernel)

NAMES: Names = {
    "token_embd": "model.embed_tokens",
    "blk.{i}.attn_norm": plus_one("model.layers.{i}.input_layernorm"),
    "blk.{i}.attn_q": "model.layers.{i}.self_attn.q_proj",
    "blk.{i}.attn_q_norm": plus_one("model.layers.{i}.self_attn.q_norm"),
    "blk.{i}.attn_k": "model.layers.{i}.self_attn.k_proj",
    "blk.{i}.attn_k_norm": plus_one("model.layers.{i}.self_attn.k_norm"),
    "blk.{i}.attn_v": "model.layers.{i}.self_attn.v_proj",
    "blk.{i}.attn_output": "model.layers.{i}.self_attn.o_proj",
    "blk.{i}.ssm_norm": NET + ".norm",
    "blk.{i}.post_attention_norm": plus_one("model.layers.{i}.post_attention_layernorm"),
    "output_norm": plus_one("model.norm"),
    "output": "lm_head",
}


def with_predicting_names(names: Names) -> Names:
    """The names of layers that predict tokens after the next one, too: as other layers', under "mtp."."""

    def is_first(place: Place) -> bool:
        return bool(place.layer == place.config["num_hidden_layers"])

    return {
        **{name: tuple(_after_others(way) for way in ways(entry)) for name, entry in names.items()},
        "blk.{i}.nextn.eh_proj": when(is_first, "mtp.fc"),
        "blk.{i}.nextn.enorm": when(is_first, plus_one("mtp.pre_fc_norm_embedding")),
        "blk.{i}.nextn.hnorm": when(is_first, plus_one("mtp.pre_fc_norm_hidden")),
        "blk.{i}.nextn.shared_head_norm": when(is_first, plus_one("mtp.norm")),
    }


def _after_others(way: Way) -> Way:
    def names(place: Place) -> list[str]:
        after = place.layer - place.config["num_hidden_layers"]
        if after < 0:
            return way.names(place)
        here, there = f"model.layers.{place.layer}.", f"mtp.layers.{after}."
        return [name.replace(here, there) for name in way.names(place)]

    return replace(way, names=names)


def hyperparameters(config: Config, model: str, inner: str | None = "intermediate_size") -> Metadata:
    """Keys of all models with these layers; inner: as for `sizes`."""
    check_supported(config, model, hidden_act=("silu", "swish"), attn_output_gate=(True,))
    rope = rope_parameters(config)
    keys = sizes(config, head_dim=256, inner=inner)
    size, heads = keys["attention.key_length"], count(config, "linear_num_value_heads", 32)
    groups = count(config, "linear_num_key_heads", 16)
    if heads % groups:
        raise FormatError("config.json: linear_num_key_heads does not divide linear_num_value_heads")
    assert isinstance(size, int)
    keys = with_predicting_layers(config, keys)
    return {
        **keys,
        **rope_base(rope),
        **rope_scaling(config, rope, model),
        **partial_rope(config, rope, size, default=0.25),
        **rms_epsilon(config),
        "ssm.conv_kernel": count(config, "linear_conv_kernel_dim", 4),
        "ssm.state_size": count(config, "linear_key_head_dim", 128),
        "ssm.group_count": groups,
        "ssm.time_step_rank": heads,
        "ssm.inner_size": heads * count(config, "linear_value_head_dim", 128),
        **_kinds(config, keys["block_count"]),
    }


def _kinds(config: Config, blocks: Any) -> Metadata:
    """Which layers have a delta net, by `layer_types` or, before it, an interval."""
    layers, every = layer_count(config), count(config, "full_attention_interval", 4)
    nets = [bool((layer + 1) % every) for layer in range(layers)]
    if config.get("layer_types") is not None:
        nets = kinds_of_layers(config, {"linear_attention": True, "full_attention": False})
    return {
        "attention.recurrent_layers": nets + [False] * (blocks - layers),
        "full_attention_interval": every,
    }


@dataclass(frozen=True, slots=True)
class Net:
    """Sizes of a delta net: groups of keys, of `size` values each; heads, of `value_size` values each."""

    groups: int
    size: int
    heads: int
    value_size: int
    places: int

    @classmethod
    def read(cls, g: Graph) -> Net:
        """From metadata."""
        k = g.keys
        inner, groups = k.integer("ssm.inner_size"), k.integer("ssm.group_count")
        heads = k.integer("ssm.time_step_rank", most=inner)
        if inner % heads or heads % groups:
            problem = f"is {heads}, must divide {inner} channels, and {groups} groups must divide it"
            raise k.error("ssm.time_step_rank", problem)
        size, places = k.integer("ssm.state_size"), k.integer("ssm.conv_kernel")
        return cls(groups, size, heads, inner // heads, places)


# From a layer's input: what is convolved, the gate (heads * value_size,), beta and alpha (heads,).
Inputs = Callable[[Layer, Value, Net], tuple[Value, Value, Value, Value]]


def network(
    g: Graph, inputs: Inputs, feed_forward: Callable[[Layer, Value], Value], *, side_by_side: bool = False
) -> Outputs:
    """Pre-norm transformer; side_by_side: heads of one group are neighbours, else groups take turns."""
    shape, net = Shape.read(g), Net.read(g)
    rope = shape.rope(g, halves=True)
    every = g.keys.integer("full_attention_interval", 4)
    are_nets = g.keys.pattern("attention.recurrent_layers", shape.layers, every)
    x = g.embed("token_embd", shape.width)
    for layer, is_net in zip(g.layers(shape.layers), are_nets, strict=True):
        h = layer.norm(x, "attn_norm")
        if is_net:
            x = x + delta_net(layer, h, net, inputs, side_by_side=side_by_side)
        else:
            x = x + gated_attention(layer, h, shape, rope)
        x = x + feed_forward(layer, layer.norm(x, "post_attention_norm"))
    return head(g, x)


def delta_net(layer: Layer, h: Value, net: Net, inputs: Inputs, *, side_by_side: bool) -> Value:
    """Gated delta rule over convolved q, k and v; a norm of each head; times silu(gate)."""
    keys, values = net.groups * net.size, net.heads * net.value_size
    layer.tensor("ssm_conv1d.weight", 2 * keys + values, net.places)
    for name in ("ssm_a", "ssm_dt.bias"):
        layer.tensor(name, net.heads)
    mixed, gate, beta, alpha = inputs(layer, h, net)
    q, k, v = layer.conv(mixed, "ssm_conv1d").apply("silu").split(keys, keys, values)
    q, k = (_unit(layer, y.view(net.groups, net.size)) for y in (q, k))
    if side_by_side:
        times = net.heads // net.groups
        q, k = (layer.concat(*[y] * times).view(net.heads, net.size) for y in (q, k))
    decay = layer.vector(layer.vector(alpha, "add", "ssm_dt.bias").apply("softplus"), "mul", "ssm_a")
    y = layer.delta_rule(q, k, v.view(net.heads, net.value_size), beta.apply("sigmoid"), decay)
    y = layer.norm(y, "ssm_norm").flat() * gate.apply("silu")
    return layer.linear(y, "ssm_out", outputs=h.width)


def _unit(layer: Layer, x: Value) -> Value:
    """Heads of length 1: x / sqrt(|x|^2 + 1e-6), whatever the configuration says of other norms."""
    size = x.shape[-1]
    return layer.norm(x, epsilon=1e-6 / size) * (1 / math.sqrt(size))


def gated_attention(layer: Layer, h: Value, shape: Shape, rope: Rope) -> Value:
    """Attention times sigmoid(gate), which stands behind each head of q."""
    heads, kv_heads, size = shape.heads[layer.index], shape.kv_heads[layer.index], shape.key_length
    q, gate = layer.linear(h, "attn_q", outputs=2 * heads * size).view(heads, 2 * size).split(size, size)
    k = layer.linear(h, "attn_k", outputs=kv_heads * size).view(kv_heads, size)
    v = layer.linear(h, "attn_v", outputs=kv_heads * shape.value_length).view(kv_heads, shape.value_length)
    q, k = (layer.rope(layer.norm(y, name), rope) for y, name in ((q, "attn_q_norm"), (k, "attn_k_norm")))
    y = layer.attention(q, layer.keep(k, v)) * gate.apply("sigmoid")
    return layer.linear(y.flat(), "attn_output", outputs=shape.width)

"""Qwen3-Next: three layers with a gated delta net for one with gated attention; experts in all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ggufpy.architectures import _delta_net, qwen3moe
from ggufpy.architectures._conversion import Config, Metadata
from ggufpy.architectures._delta_net import CONV, NET, Net
from ggufpy.architectures._names import Names, Place, negative_exp, ordered, rows, tensor
from ggufpy.architectures.qwen2moe import keys_of_experts
from ggufpy.architectures.qwen35moe import mixture
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES = ("Qwen3NextForCausalLM",)


def _by_kind(place: Place) -> NDArray[np.int64]:
    """All queries, keys, values and gates; checkpoints have those of one group of heads together."""
    groups, keys = place.count("ssm.group_count"), place.count("ssm.state_size")
    values = place.count("ssm.inner_size") // groups
    order = np.arange(groups * 2 * (keys + values)).reshape(groups, -1)
    parts = np.split(order, [keys, 2 * keys, 2 * keys + values], axis=1)
    return np.concatenate([part.ravel() for part in parts])


def _mixed(place: Place) -> int:
    """Outputs that are convolved."""
    return _delta_net.kernel(place)[0]


NAMES: Names = _delta_net.with_predicting_names(
    {
        **_delta_net.NAMES,
        "blk.{i}.attn_qkv": rows(ordered(NET + ".in_proj_qkvz", _by_kind), lambda p: slice(_mixed(p))),
        "blk.{i}.attn_gate": rows(ordered(NET + ".in_proj_qkvz", _by_kind), lambda p: slice(_mixed(p), None)),
        "blk.{i}.ssm_ba": NET + ".in_proj_ba",
        "blk.{i}.ssm_conv1d.weight": CONV,
        "blk.{i}.ssm_dt.bias": tensor(NET + ".dt_bias"),
        "blk.{i}.ssm_a": negative_exp(tensor(NET + ".A_log")),
        "blk.{i}.ssm_out": NET + ".out_proj",
        **qwen3moe.EXPERTS,
        **qwen3moe.SHARED_EXPERT,
    }
)


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    return {
        **_delta_net.hyperparameters(config, "Qwen3-Next"),
        **keys_of_experts(config, "Qwen3-Next", normalized=True),
    }


def forward(g: Graph) -> Outputs:
    """The layers in turns, each with experts; heads of one group are neighbours."""
    return _delta_net.network(g, _inputs, mixture, side_by_side=True)


def _inputs(layer: Layer, h: Value, net: Net) -> tuple[Value, Value, Value, Value]:
    """Of beta and alpha, those of one group stand together; in old files so do all others (`ssm_in`)."""
    heads = net.heads // net.groups
    keys, values = net.groups * net.size, net.heads * net.value_size
    both = layer.linear(h, "ssm_ba", outputs=2 * net.heads).view(net.groups, 2 * heads)
    beta, alpha = (part.flat() for part in both.split(heads, heads))
    if layer.has("ssm_in.weight") and not layer.has("attn_qkv.weight"):
        sizes = net.size, net.size, heads * net.value_size, heads * net.value_size
        of_groups = layer.linear(h, "ssm_in", outputs=2 * (keys + values)).view(net.groups, sum(sizes))
        q, k, v, gate = (part.flat() for part in of_groups.split(*sizes))
        return layer.concat(q, k, v), gate, beta, alpha
    layer.ignore("ssm_in.weight")
    mixed = layer.linear(h, "attn_qkv", outputs=2 * keys + values)
    return mixed, layer.linear(h, "attn_gate", outputs=values), beta, alpha

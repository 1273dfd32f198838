"""Qwen3.5: three layers with a gated delta net for one with gated attention."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ggufpy.architectures import _delta_net
from ggufpy.architectures._conversion import Config, Metadata
from ggufpy.architectures._decoder import gated
from ggufpy.architectures._delta_net import CONV, NET, Net
from ggufpy.architectures._names import Names, Place, negative_exp, ordered, tensor
from ggufpy.architectures._rope_keys import rope_parameters
from ggufpy.errors import FormatError
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES = ("Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration")

Order = NDArray[np.int64]


def _heads(key: str | None = None) -> Callable[[Place], Order]:
    """Values of all heads: those of one group are neighbours in checkpoints; in GGUF groups take turns.

    key: of the sizes of all heads together, None for one value of each.
    """

    def order(place: Place) -> Order:
        groups, heads = place.count("ssm.group_count"), place.count("ssm.time_step_rank")
        values = place.count(key) if key else heads
        return np.arange(values).reshape(groups, heads // groups, -1).swapaxes(0, 1).ravel()

    return order


def _mixed(place: Place) -> Order:
    """Queries and keys stay, values are those of `_heads`."""
    keys = 2 * place.count("ssm.group_count") * place.count("ssm.state_size")
    return np.concatenate([np.arange(keys), keys + _heads("ssm.inner_size")(place)])


NETS: Names = {
    **_delta_net.NAMES,
    "blk.{i}.attn_qkv": ordered(NET + ".in_proj_qkv", _mixed),
    "blk.{i}.attn_gate": ordered(NET + ".in_proj_z", _heads("ssm.inner_size")),
    "blk.{i}.ssm_beta": ordered(NET + ".in_proj_b", _heads()),
    "blk.{i}.ssm_alpha": ordered(NET + ".in_proj_a", _heads()),
    "blk.{i}.ssm_conv1d.weight": ordered(CONV, _mixed),
    "blk.{i}.ssm_dt.bias": ordered(tensor(NET + ".dt_bias"), _heads()),
    "blk.{i}.ssm_a": ordered(negative_exp(tensor(NET + ".A_log")), _heads()),
    "blk.{i}.ssm_out": ordered(NET + ".out_proj", _heads("ssm.inner_size"), inputs=True),
}

NAMES: Names = _delta_net.with_predicting_names(
    {
        **NETS,
        "blk.{i}.ffn_gate": "model.layers.{i}.mlp.gate_proj",
        "blk.{i}.ffn_up": "model.layers.{i}.mlp.up_proj",
        "blk.{i}.ffn_down": "model.layers.{i}.mlp.down_proj",
    }
)


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    return {**_delta_net.hyperparameters(config, "Qwen3.5"), **sections(config)}


def sections(config: Config) -> Metadata:
    """How many pairs of a head turn by time, height and width, which are one number in texts."""
    given = rope_parameters(config).get("mrope_section", [11, 11, 10])
    if not isinstance(given, list) or len(given) > 4 or any(type(n) is not int or n < 0 for n in given):
        raise FormatError(f"config.json: mrope_section is {given!r:.40}, it must be up to four whole numbers")
    return {"rope.dimension_sections": [*given, 0, 0, 0, 0][:4]}


def forward(g: Graph) -> Outputs:
    """The layers in turns, each with a feed-forward network."""
    return _delta_net.network(g, inputs, lambda layer, h: gated(layer, h, "silu"))


def inputs(layer: Layer, h: Value, net: Net) -> tuple[Value, Value, Value, Value]:
    """A matrix for each of a delta net's inputs."""
    values = net.heads * net.value_size
    sizes = {
        "attn_qkv": 2 * net.groups * net.size + values,
        "attn_gate": values,
        "ssm_beta": net.heads,
        "ssm_alpha": net.heads,
    }
    mixed, gate, beta, alpha = (layer.linear(h, name, outputs=size) for name, size in sizes.items())
    return mixed, gate, beta, alpha

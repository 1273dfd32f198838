"""Gemma 3n: Gemma 3 with streams that each layer predicts and corrects (AltUp), and inputs of its own."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

from ggufpy.architectures import _per_layer
from ggufpy.architectures._altup import corrected, mean_of, predicted, streams_of
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    layer_count,
    number,
    rms_epsilon,
    sizes,
    windows_of_layers,
)
from ggufpy.architectures._decoder import Shape, added, head, windows
from ggufpy.architectures._names import Names, Place, Way, stack, tensor
from ggufpy.architectures._per_layer import LAYER, Kind, Sharing, inputs_of_layers, of_input
from ggufpy.architectures._rope_keys import rope_of_kinds
from ggufpy.errors import FormatError
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES = ("Gemma3nForCausalLM", "Gemma3nForConditionalGeneration")


def _others(place: Place) -> int:
    """Streams besides the first."""
    return place.count("altup.num_inputs") - 1


def _seen(place: Place) -> Place:
    """For layers that share, the one that they look at: llama.cpp wants them to have some keys and values."""
    kinds, first = (
        place.keys["attention.sliding_window_pattern"],
        place.count("block_count") - place.count("attention.shared_kv_layers"),
    )
    assert isinstance(kinds, list)
    alike = [layer for layer in range(first) if kinds[layer] == kinds[place.layer]]
    return replace(place, layer=alike[-1]) if place.layer >= first and alike else place


def _or_seen(name: str) -> tuple[str, Way]:
    return name, Way(lambda place: [_seen(place).filled(name)], lambda place, found: found[0])


NAMES: Names = {
    **_per_layer.NAMES,
    "blk.{i}.attn_k": _or_seen(LAYER + "self_attn.k_proj"),
    "blk.{i}.attn_k_norm": _or_seen(LAYER + "self_attn.k_norm"),
    "blk.{i}.attn_v": _or_seen(LAYER + "self_attn.v_proj"),
    "altup_proj": stack("model.altup_projections.{e}", _others),
    "altup_unembd_proj": stack("model.altup_unembed_projections.{e}", _others),
    "blk.{i}.laurel_l": LAYER + "laurel.linear_left",
    "blk.{i}.laurel_r": LAYER + "laurel.linear_right",
    "blk.{i}.laurel_post_norm": LAYER + "laurel.post_laurel_norm",
    "blk.{i}.altup_predict_coef": LAYER + "altup.prediction_coefs",
    "blk.{i}.altup_correct_coef": LAYER + "altup.correction_coefs",
    "blk.{i}.altup_correct_scale.weight": tensor(LAYER + "altup.correct_output_scale"),
    "blk.{i}.altup_router": LAYER + "altup.modality_router",
    "blk.{i}.altup_router_norm": LAYER + "altup.router_norm",
}

# What checkpoints leave out. Source: transformers configuration_gemma3n.py.
_DEFAULTS = {
    "num_kv_shared_layers": 15,
    "hidden_size_per_layer_input": 256,
    "final_logit_softcapping": 30.0,
    "layer_types": None,
    "sliding_window": 512,
}
_EVERY = 5  # of so many layers one attends to all, where nothing is said
_RANK = 64  # of laurel, where nothing is said
_KEEPING = 20  # layers whose keys and values are kept, where nothing is said
_SPARSE, _SPARSITY = 10, 0.95  # layers, and the part of what is 0 in them, where nothing is said


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; the rank is a key of our own where it is not llama.cpp's."""
    layers = layer_count(config)
    config = {**_DEFAULTS, **config}
    kinds = config["layer_types"] or [
        "sliding_attention" if (layer + 1) % _EVERY else "full_attention" for layer in range(layers)
    ]
    config["layer_types"] = kinds
    check_supported(
        config,
        "Gemma 3n",
        hidden_activation=("gelu_pytorch_tanh",),
        altup_active_idx=(0,),
        altup_correct_scale=(True,),
    )
    inner = _of_layers(config, "intermediate_size", 16384)
    rank = count(config, "laurel_rank", _RANK)
    return {
        **sizes({**config, "intermediate_size": inner[0]}, head_dim=256),
        "feed_forward_length": inner,
        **rope_of_kinds(config, "Gemma 3n"),
        **rms_epsilon(config),
        **windows_of_layers(config, every=_EVERY),
        "attention.sliding_window_pattern": [kind == "sliding_attention" for kind in kinds],
        **_per_layer.hyperparameters(config),
        "altup.active_idx": 0,
        "altup.num_inputs": count(config, "altup_num_inputs", 4),
        "activation_sparsity_scale": _deviations(config),
        **({} if rank == _RANK else {"laurel.rank": rank}),
        "final_logit_softcapping": number(config, "final_logit_softcapping"),
    }


def _of_layers(config: Config, key: str, default: Any) -> list[Any]:
    """A value for each layer, of a list or of one for all."""
    layers, given = layer_count(config), config.get(key)
    values = given if isinstance(given, list) else [default if given is None else given] * layers
    if len(values) != layers:
        raise FormatError(f"config.json: {key} is {given!r:.60}, it must have {layers} values")
    return [count({key: value}, key) if isinstance(default, int) else value for value in values]


def _deviations(config: Config) -> list[float]:
    """By how many standard deviations values of a sparse layer have to be above the mean; -inf: all stay."""
    key, layers = "activation_sparsity_pattern", layer_count(config)
    given = config.get(key)
    if given is None:
        sparse = _SPARSE if layers > _SPARSE else 0
        given = [_SPARSITY] * sparse + [0.0] * (layers - sparse)
    parts = _of_layers({**config, key: given}, key, 0.0)
    if any(
        isinstance(part, bool) or not isinstance(part, int | float) or not 0 <= part < 1 for part in parts
    ):
        raise FormatError(f"config.json: {key} is {given!r:.60}, it must have numbers from 0 to below 1")
    return [NormalDist().inv_cdf(part) if part else -math.inf for part in parts]


def forward(g: Graph) -> Outputs:
    """Streams are made of the embedding; the mean of the last ones goes to the head."""
    shape, k = Shape.read(g), g.keys
    k.expect("altup.active_idx", 0)
    rope = shape.rope(g, halves=True)
    local = replace(shape.local_rope(g, rope, 10000.0), scaling="none")
    sharing = Sharing(g, shape, max(shape.layers - _KEEPING, 0))
    inner, above = k.integers("feed_forward_length", shape.layers), _read_deviations(g, shape.layers)
    x = g.embed("token_embd", shape.width, scale=math.sqrt(shape.width))
    own = inputs_of_layers(g, x, shape.layers)
    x = streams_of(g, x, k.integer("altup.num_inputs", 4, least=2, most=64))
    for i, window in enumerate(windows(g, shape, every=_EVERY)):
        layer = Layer(g, i)
        x = predicted(layer, x)
        first = x.flat()[: shape.width]
        h = layer.norm(first, "attn_norm")
        y = sharing.attend(layer, h, Kind(shape.key_length, local if window else rope, window))
        y = first + layer.norm(y, "post_attention_norm")
        y = (y + _laurel(layer, h)) * math.sqrt(0.5)
        h = _feed_forward(layer, layer.norm(y, "ffn_norm"), inner[i], above[i])
        first, *others = corrected(layer, x, y + layer.norm(h, "post_ffw_norm"))
        layer.tensor("altup_correct_scale.weight", shape.width)
        more = of_input(layer, layer.vector(first, "mul", "altup_correct_scale.weight"), own[i])
        x = g.concat(first, *(other + more for other in others)).view(*x.shape)
    return head(g, mean_of(g, x), softcap=30.0)


def _read_deviations(g: Graph, layers: int) -> list[float]:
    """As `_deviations` writes them."""
    key = "activation_sparsity_scale"
    usual = [NormalDist().inv_cdf(_SPARSITY)] * _SPARSE + [-math.inf] * layers
    values = g.keys.get(key, usual)
    if not isinstance(values, list) or len(values) < layers or not all(x < math.inf for x in values):
        raise g.keys.error(key, f"is {values!r:.40}, must be one number per layer ({layers})")
    return [float(x) for x in values]


def _laurel(layer: Layer, h: Value) -> Value:
    """H, and h through two narrow matrices."""
    y = layer.linear(h, "laurel_l", outputs=layer.keys.integer("laurel.rank", _RANK))
    return h + layer.norm(layer.linear(y, "laurel_r", outputs=h.width), "laurel_post_norm")


def _feed_forward(layer: Layer, h: Value, inner: int, above: float) -> Value:
    """Feed-forward network; of gates that lie so many deviations above their mean, what lies above it."""
    gate, up = (layer.linear(h, name, outputs=inner) for name in ("ffn_gate", "ffn_up"))
    if above > -math.inf:
        z = layer.norm(gate, size="layer", epsilon=1e-30)
        deviation = added(layer, gate * z) * (1 / inner)
        gate = (z + -above).apply("relu") * deviation
    return layer.linear(gate.apply("gelu") * up, "ffn_down", outputs=h.width)

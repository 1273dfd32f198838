"""Gemma 3n and Gemma 4: inputs of each layer's own, and layers that look at what earlier ones kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ggufpy.architectures._conversion import Config, Metadata, layer_count
from ggufpy.architectures._decoder import Shape
from ggufpy.architectures._names import Names, padded
from ggufpy.errors import FormatError
from ggufpy.graph import Graph, Layer, Value
from ggufpy.graph.rope import Rope

LAYER = "model.layers.{i}."

NAMES: Names = {
    "token_embd": "model.embed_tokens",
    "per_layer_token_embd": padded("model.embed_tokens_per_layer"),
    # The second is what transformers 4 makes of it.
    "per_layer_model_proj": (
        "model.per_layer_model_projection",
        "model.per_layer_model.language_model_projection",
    ),
    "per_layer_proj_norm": "model.per_layer_projection_norm",
    "blk.{i}.attn_norm": LAYER + "input_layernorm",
    "blk.{i}.attn_q": LAYER + "self_attn.q_proj",
    "blk.{i}.attn_q_norm": LAYER + "self_attn.q_norm",
    "blk.{i}.attn_k": LAYER + "self_attn.k_proj",
    "blk.{i}.attn_k_norm": LAYER + "self_attn.k_norm",
    "blk.{i}.attn_v": LAYER + "self_attn.v_proj",
    "blk.{i}.attn_output": LAYER + "self_attn.o_proj",
    "blk.{i}.post_attention_norm": LAYER + "post_attention_layernorm",
    "blk.{i}.ffn_norm": LAYER + "pre_feedforward_layernorm",
    "blk.{i}.ffn_gate": LAYER + "mlp.gate_proj",
    "blk.{i}.ffn_up": LAYER + "mlp.up_proj",
    "blk.{i}.ffn_down": LAYER + "mlp.down_proj",
    "blk.{i}.post_ffw_norm": LAYER + "post_feedforward_layernorm",
    "blk.{i}.inp_gate": LAYER + "per_layer_input_gate",
    "blk.{i}.proj": LAYER + "per_layer_projection",
    "blk.{i}.post_norm": LAYER + "post_per_layer_input_norm",
    "output_norm": "model.norm",
    "output": "lm_head",
}


def hyperparameters(config: Config) -> Metadata:
    """Keys of layers' own inputs, and of layers that share."""
    own, shared = (_whole(config, key) for key in ("hidden_size_per_layer_input", "num_kv_shared_layers"))
    if shared >= layer_count(config):
        raise FormatError(f"config.json: num_kv_shared_layers is {shared}, so no layer would keep anything")
    return {"embedding_length_per_layer_input": own, "attention.shared_kv_layers": shared}


def _whole(config: Config, key: str) -> int:
    value = config.get(key)
    if type(value) is not int or value < 0:
        raise FormatError(f"config.json: {key} is {value!r:.40}, it must be a whole number")
    return value


def inputs_of_layers(g: Graph, x: Value, layers: int) -> list[Value]:
    """What each layer takes besides x, (size,): a token's own, and what is made of its embedding x.

    Nothing, where the file says that there is none.
    """
    size = g.keys.integer("embedding_length_per_layer_input", least=0, most=1 << 16)
    if not size:
        return []
    tokens = g.shape("token_embd.weight")[0]
    own = g.embed("per_layer_token_embd", layers * size, scale=math.sqrt(size), rows=tokens)
    made = g.linear(x, "per_layer_model_proj", outputs=layers * size).view(layers, size)
    # It is divided by the root of the width, of which the norm takes back all but its epsilon.
    made = g.norm(made, "per_layer_proj_norm", epsilon=x.width * _epsilon(g))
    return (made.flat() + own).split(*[size] * layers)


def of_input(layer: Layer, x: Value, own: Value) -> Value:
    """What a layer's own input adds to x."""
    gate = layer.linear(x, "inp_gate", outputs=own.width).apply("gelu")
    # The sum of two inputs is divided by the root of 2, of which the norm takes back all but its epsilon.
    y = layer.linear(gate * own, "proj", outputs=x.width)
    return layer.norm(y, "post_norm", epsilon=2 * _epsilon(layer))


def _epsilon(g: Graph) -> float:
    return g.keys.number("attention.layer_norm_rms_epsilon")


@dataclass(frozen=True, slots=True)
class Kind:
    """What layers with a window have in common, or those without; size: of all heads.

    factors: a tensor that divides the angles. value_is_key: keys are values, too, where there are no others.
    """

    size: int
    rope: Rope
    window: int | None
    factors: str | None = None
    value_is_key: bool = False


class Sharing:
    """Attention whose last layers look at what the last layer of their kind before them kept.

    Scores are not scaled; heads of values have a norm without weights.
    """

    def __init__(self, g: Graph, shape: Shape, shared: int) -> None:
        shared = g.keys.integer("attention.shared_kv_layers", shared, least=0, most=shape.layers)
        self._shape, self._first = shape, shape.layers - shared
        self._kept: dict[Kind, Value] = {}

    def attend(self, layer: Layer, h: Value, kind: Kind) -> Value:
        """From inputs to outputs."""
        heads = self._shape.heads[layer.index]
        q = layer.linear(h, "attn_q", outputs=heads * kind.size).view(heads, kind.size)
        q = layer.rope(layer.norm(q, "attn_q_norm"), kind.rope, kind.factors)
        if layer.index < self._first:
            self._kept[kind] = self._keep(layer, h, kind)
        elif kind not in self._kept:
            problem = f"leaves layer {layer.index} without a layer of its kind before it"
            raise layer.keys.error("attention.shared_kv_layers", problem)
        else:
            names = ("attn_k", "attn_k_norm", "attn_v")
            layer.ignore(*(f"{name}.{part}" for name in names for part in ("weight", "bias")))
        y = layer.attention(q, self._kept[kind], scale=1.0)
        return layer.linear(y.flat(), "attn_output", outputs=h.width)

    def _keep(self, layer: Layer, h: Value, kind: Kind) -> Value:
        heads = self._shape.kv_heads[layer.index]
        k = v = layer.linear(h, "attn_k", outputs=heads * kind.size).view(heads, kind.size)
        if layer.has("attn_v.weight") or not kind.value_is_key:
            v = layer.linear(h, "attn_v", outputs=heads * kind.size).view(heads, kind.size)
        k = layer.rope(layer.norm(k, "attn_k_norm"), kind.rope, kind.factors)
        return layer.keep(k, layer.norm(v), kind.window)

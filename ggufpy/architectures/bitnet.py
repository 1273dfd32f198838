"""BitNet b1.58: Llama with norms before the last matrix of each part; matrices may be of -1, 0 and 1.

The model's activations are of eight bits per token, which a file cannot say: they are taken as they are.
"""

from __future__ import annotations

from typing import Any

from ggufpy.architectures import qwen2
from ggufpy.architectures._conversion import Config, Metadata, check_supported, rms_epsilon, sizes
from ggufpy.architectures._decoder import Shape, head, qkv
from ggufpy.architectures._encoder import activation, activation_key
from ggufpy.architectures._names import Names, Place, Way
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.gguf import sources
from ggufpy.gguf.tensors import TensorSource
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("BitNetForCausalLM",)


def _quantization(config: Config) -> dict[str, Any]:
    """How matrices are quantized, as transformers' BitNetQuantConfig has it; empty if they are not."""
    given = config.get("quantization_config")
    usual = {"linear_class": "bitlinear", "quantization_mode": "offline"}
    return {**usual, **given} if isinstance(given, dict) else {}


def _linear(name: str) -> Way:
    """A matrix of floats, which may stand for -1, 0 and 1 times a factor, or one of these packed in bytes."""

    def is_packed(place: Place) -> bool:
        mode = _quantization(place.config).get("quantization_mode")
        return place.part == "weight" and mode == "offline"

    def names(place: Place) -> list[str]:
        scale = [f"{name}.weight_scale".format(i=place.layer)] if is_packed(place) else []
        return [place.filled(name), *scale]

    def make(place: Place, found: list[TensorSource]) -> TensorSource:
        how = _quantization(place.config)
        if not is_packed(place):
            return sources.ternary(found[0]) if how and place.part == "weight" else found[0]
        return sources.packed_ternary(*found, divides=how["linear_class"] == "bitlinear")

    return Way(names, make)


_MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

NAMES: Names = {
    **{
        name: _linear(theirs) if isinstance(theirs, str) and theirs.endswith(_MATRICES) else theirs
        for name, theirs in qwen2.NAMES.items()
    },
    "blk.{i}.attn_sub_norm": "model.layers.{i}.self_attn.attn_sub_norm",
    "blk.{i}.ffn_sub_norm": "model.layers.{i}.mlp.ffn_sub_norm",
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; llama.cpp's network has SiLU, whatever they say."""
    check_supported(config, "BitNet", quantization_config=("bitnet",))
    check_supported(
        _quantization(config),
        "BitNet",
        linear_class=("bitlinear", "autobitlinear"),
        quantization_mode=("online", "offline"),
        use_rms_norm=(False,),
    )
    rope = rope_parameters(config, 5e5)
    return {
        **sizes(config),
        **rope_base(rope),
        **rope_scaling(config, rope, "BitNet"),
        **rms_epsilon(config, 1e-5),
        **activation_key({"hidden_act": config.get("hidden_act", "relu2")}, "BitNet", usual="silu"),
    }


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    function, inner = activation(g, "silu"), g.keys.integer("feed_forward_length")
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        q, k, v = qkv(layer, layer.norm(x, "attn_norm"), shape)
        y = layer.attention(layer.rope(q, rope), layer.keep(layer.rope(k, rope), v)).flat()
        x = x + layer.linear(layer.norm(y, "attn_sub_norm"), "attn_output", outputs=shape.width)
        h = layer.norm(x, "ffn_norm")
        gate, up = (layer.linear(h, name, outputs=inner) for name in ("ffn_gate", "ffn_up"))
        y = layer.norm(gate.apply(function) * up, "ffn_sub_norm")
        x = x + layer.linear(y, "ffn_down", outputs=shape.width)
    return head(g, x)

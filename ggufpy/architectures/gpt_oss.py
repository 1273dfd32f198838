"""GPT-OSS: experts with biases, a sink for each head, every other layer with a window."""

from __future__ import annotations

from functools import partial

from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    expert_keys,
    rms_epsilon,
    sizes,
    windows_of_layers,
)
from ggufpy.architectures._decoder import Shape, attend, experts, head, windows
from ggufpy.architectures._names import Names, columns, rows, tensor, transposed
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES = ("GptOssForCausalLM",)

# All experts are in one tensor, in which outputs of gate and up take turns: floats as (inputs, outputs), or
# blocks of them, `weight`, as (outputs, inputs).
_EXPERTS = "model.layers.{i}.mlp.experts"
_GATE_UP = (transposed(tensor(_EXPERTS + ".gate_up_proj")), tensor(_EXPERTS + ".gate_up_proj.weight"))
_GATE, _UP = slice(0, None, 2), slice(1, None, 2)

NAMES: Names = {
    "token_embd": "model.embed_tokens",
    "blk.{i}.attn_norm": "model.layers.{i}.input_layernorm",
    "blk.{i}.attn_q": "model.layers.{i}.self_attn.q_proj",
    "blk.{i}.attn_k": "model.layers.{i}.self_attn.k_proj",
    "blk.{i}.attn_v": "model.layers.{i}.self_attn.v_proj",
    "blk.{i}.attn_sinks.weight": tensor("model.layers.{i}.self_attn.sinks"),
    "blk.{i}.attn_output": "model.layers.{i}.self_attn.o_proj",
    "blk.{i}.post_attention_norm": "model.layers.{i}.post_attention_layernorm",
    "blk.{i}.ffn_gate_inp": "model.layers.{i}.mlp.router",
    "blk.{i}.ffn_gate_exps.weight": tuple(rows(way, _GATE) for way in _GATE_UP),
    "blk.{i}.ffn_gate_exps.bias": columns(tensor(_EXPERTS + ".gate_up_proj_bias"), _GATE),
    "blk.{i}.ffn_up_exps.weight": tuple(rows(way, _UP) for way in _GATE_UP),
    "blk.{i}.ffn_up_exps.bias": columns(tensor(_EXPERTS + ".gate_up_proj_bias"), _UP),
    "blk.{i}.ffn_down_exps.weight": (
        transposed(tensor(_EXPERTS + ".down_proj")),
        tensor(_EXPERTS + ".down_proj.weight"),
    ),
    "blk.{i}.ffn_down_exps.bias": tensor(_EXPERTS + ".down_proj_bias"),
    "output_norm": "model.norm",
    "output": "lm_head",
}

_ALPHA, _LIMIT = 1.702, 7.0  # of the activation
_EVERY = 2  # of so many layers one attends to all, where nothing is said


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    check_supported(
        config,
        "GPT-OSS",
        hidden_act=("silu",),
        swiglu_alpha=(_ALPHA,),
        swiglu_limit=(_LIMIT,),
    )
    rope = rope_parameters(config, theta=150000.0)
    return {
        **sizes(config, head_dim=64),
        **rope_base(rope),
        **rope_scaling(config, rope, "GPT-OSS"),
        **rms_epsilon(config, default=1e-5),
        **windows_of_layers({"sliding_window": 128, **config}, every=_EVERY),
        **expert_keys(config, "intermediate_size"),
    }


def forward(g: Graph) -> Outputs:
    """Pre-norm transformer; experts are weighted by the softmax of those chosen."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    local = shape.local_rope(g, rope, rope.base)
    x = g.embed("token_embd", shape.width)
    for layer, window in zip(g.layers(shape.layers), windows(g, shape, every=_EVERY), strict=True):
        h, turn = layer.norm(x, "attn_norm"), local if window else rope
        x = x + attend(layer, h, shape, turn, window=window, sinks="attn_sinks.weight")
        h = layer.norm(x, "post_attention_norm")
        x = x + experts(layer, h, partial(_activate, layer), gating="chosen")
    return head(g, x)


def _activate(layer: Layer, gate: Value, up: Value) -> Value:
    """Gate * sigmoid(1.702 gate) * (up + 1), both limited."""
    return layer.clamp(gate, high=_LIMIT).apply("gelu_quick") * (layer.clamp(up, -_LIMIT, _LIMIT) + 1.0)

"""Llama 4: chunks of attention that turns, between layers that see all and do not; experts by sigmoid."""

from __future__ import annotations

from ggufpy.architectures import qwen2
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    expert_keys,
    head_size,
    layer_count,
    number,
    rms_epsilon,
    sizes,
)
from ggufpy.architectures._decoder import Shape, choose, gated, head, qkv
from ggufpy.architectures._names import Names, constant, rows, tensor, transposed
from ggufpy.architectures._rope_keys import llama3_factors, rope_base, rope_parameters, rope_scaling
from ggufpy.errors import UnsupportedModelError
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES = ("Llama4ForCausalLM", "Llama4ForConditionalGeneration")

_NET = "model.layers.{i}.feed_forward"
_BOTH = transposed(tensor(_NET + ".experts.gate_up_proj"))


NAMES: Names = {
    "token_embd": "model.embed_tokens",
    "rope_freqs.weight": constant(llama3_factors),
    **{n: theirs for n, theirs in qwen2.NAMES.items() if "attn" in n or n.endswith("ffn_norm")},
    "blk.{i}.ffn_gate": _NET + ".gate_proj",
    "blk.{i}.ffn_up": _NET + ".up_proj",
    "blk.{i}.ffn_down": _NET + ".down_proj",
    "blk.{i}.ffn_gate_inp": _NET + ".router",
    "blk.{i}.ffn_gate_exps.weight": rows(_BOTH, lambda p: slice(p.count("expert_feed_forward_length"))),
    "blk.{i}.ffn_up_exps.weight": rows(_BOTH, lambda p: slice(p.count("expert_feed_forward_length"), None)),
    "blk.{i}.ffn_down_exps.weight": transposed(tensor(_NET + ".experts.down_proj")),
    "blk.{i}.ffn_gate_shexp": _NET + ".shared_expert.gate_proj",
    "blk.{i}.ffn_up_shexp": _NET + ".shared_expert.up_proj",
    "blk.{i}.ffn_down_shexp": _NET + ".shared_expert.down_proj",
    "output_norm": "model.norm",
    "output": "lm_head",
}

# What llama.cpp takes; other values have keys of our own.
_CHUNK, _EVERY, _FLOOR_SCALE, _ATTN_SCALE = 8192, 4, 8192, 0.1
_EXPERTS_WITHOUT_NORM = 128  # of Maverick, whose queries and keys have no norm


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys, which cannot say which layers turn, nor whether q and k have a norm."""
    layers, step = layer_count(config), count(config, "interleave_moe_layer_step", 1)
    experts = expert_keys(config, "intermediate_size")
    turns = [int((layer + 1) % _EVERY != 0) for layer in range(layers)]
    check_supported(
        config,
        "Llama 4",
        hidden_act=("silu", "swish"),
        no_rope_layers=(turns, []),
        no_rope_layer_interval=(_EVERY,),
        moe_layers=(list(range(step - 1, layers, step)),),
        use_qk_norm=(experts["expert_count"] != _EXPERTS_WITHOUT_NORM,),
        attn_temperature_tuning=(True, 4),
    )
    rope = rope_parameters(config, 5e5)
    keys: Metadata = {
        **sizes({**config, "intermediate_size": count(config, "intermediate_size_mlp")}),
        "rope.dimension_count": head_size(config),
        **rope_base(rope),
        **rope_scaling(config, rope, "Llama 4", others=("llama3",)),
        **rms_epsilon(config, 1e-5),
        "vocab_size": count(config, "vocab_size"),
        **experts,
        "interleave_moe_layer_step": step,
    }
    chunk = count(config, "attention_chunk_size", _CHUNK)
    if chunk != _CHUNK:
        keys["attention.chunk_length"] = chunk
    scale, floor = number(config, "attn_scale", _ATTN_SCALE), count(config, "floor_scale", _FLOOR_SCALE)
    if scale != _ATTN_SCALE:
        keys["attention.temperature_scale"] = scale
    if floor != _FLOOR_SCALE:
        keys["attention.temperature_length"] = floor
    _check_kinds(config, turns)
    return keys


def _check_kinds(config: Config, turns: list[int]) -> None:
    kinds = config.get("layer_types")
    usual = ["chunked_attention" if turn else "full_attention" for turn in turns]
    if kinds is not None and kinds != usual:
        raise UnsupportedModelError(f"config.json: layer_types {kinds!r:.60} is not supported for Llama 4")


def forward(g: Graph) -> Outputs:
    """Every fourth layer sees all, and its queries grow with the logarithm of their place."""
    shape = Shape.read(g)
    rope = shape.local_rope(g, shape.rope(g, halves=False), g.keys.number("rope.freq_base", 10000.0))
    chunk = g.keys.integer("attention.chunk_length", _CHUNK)
    g.keys.get("attention.sliding_window_pattern", 0)
    # llama.cpp reads of this key only whether it is 0: then all layers turn and see all.
    usual = g.keys.integer("attention.sliding_window", 1, least=0) > 0
    temperature = g.keys.number("attention.temperature_scale", _ATTN_SCALE)
    length = g.keys.integer("attention.temperature_length", _FLOOR_SCALE)
    has_norms = g.keys.integer("expert_count") != _EXPERTS_WITHOUT_NORM
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        q, k, v = qkv(layer, layer.norm(x, "attn_norm"), shape)
        turns = (layer.index + 1) % _EVERY != 0 or not usual
        if turns:
            q, k = (layer.rope(y, rope, "rope_freqs.weight") for y in (q, k))
            if has_norms:
                q, k = layer.norm(q), layer.norm(k)
        y = layer.attention(
            q,
            layer.keep(k, v),
            temperature=0.0 if turns else temperature,
            temperature_length=length,
            temperature_offset=1,
            chunk=chunk if turns and usual else 0,
        )
        x = x + layer.linear(y.flat(), "attn_output", outputs=shape.width)
        x = x + _network(layer, layer.norm(x, "ffn_norm"))
    return head(g, x)


def _network(layer: Layer, h: Value) -> Value:
    """Each so manieth layer has experts, whose weights are multiplied with what they read."""
    if (layer.index + 1) % layer.keys.integer("interleave_moe_layer_step"):
        return gated(layer, h, "silu")
    inner = layer.keys.integer("expert_feed_forward_length")
    chosen = choose(layer, h, gating="sigmoid")
    gate, up = (
        layer.linear_of_experts(h, name, chosen, outputs=inner) * chosen.weights
        for name in ("ffn_gate_exps", "ffn_up_exps")
    )
    y = layer.linear_of_experts(gate.apply("silu") * up, "ffn_down_exps", chosen, outputs=h.width)
    return layer.total(y) + gated(layer, h, "silu", "_shexp", inner)

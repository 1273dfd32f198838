"""Falcon-H1: attention and Mamba 2 side by side in each layer; factors become part of the weights."""

from __future__ import annotations

from ggufpy.architectures import mamba2
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    flag,
    number,
    rms_epsilon,
    sizes,
)
from ggufpy.architectures._decoder import Shape, attend, gated, head
from ggufpy.architectures._names import Names, Place, Way, scaled, tensor, when
from ggufpy.architectures._rope_keys import rope_base, rope_parameters, rope_scaling
from ggufpy.errors import FormatError
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("FalconH1ForCausalLM",)

# Factors in config.json, and how many numbers each key has.
_FACTORS = {
    **dict.fromkeys(("embedding_multiplier", "lm_head_multiplier", "key_multiplier"), 1),
    **dict.fromkeys(("attention_in_multiplier", "attention_out_multiplier"), 1),
    **dict.fromkeys(("ssm_in_multiplier", "ssm_out_multiplier"), 1),
    "mlp_multipliers": 2,
    "ssm_multipliers": 5,
}


def _factors(config: Config, name: str) -> list[float]:
    """The numbers of a key, 1 where nothing is said; raises FormatError."""
    value, length = config.get(name), _FACTORS[name]
    alone = length == 1 or value is None
    values = [1.0 if value is None else value] * length if alone else value
    if not isinstance(values, list):
        raise FormatError(f"config.json: {name} is {value!r:.40}, it must be a list of {length} numbers")
    if len(values) != length:
        problem = f"is {value!r:.60}, it must be a list of {length} numbers"
        raise FormatError(f"config.json: {name} {problem}")
    return [number({name: each}, name) for each in values]


def _linear(name: str, after: str | None = None, before: str | None = None, part: int = 0) -> Way:
    """A matrix whose inputs are multiplied with the key `before`, and the results with a part of `after`."""

    def factors(place: Place) -> list[float]:
        outer = _factors(place.config, after)[part] if after else 1.0
        inner = _factors(place.config, before)[0] if before and place.part == "weight" else 1.0
        return [outer * inner]

    return scaled(name, factors)


def _of_mixer(place: Place) -> list[float]:
    """One factor for each result of a mixer's first matrix: gate, inputs, b, c and time steps."""
    inner, heads = place.count("ssm.inner_size"), place.count("ssm.time_step_rank")
    shared = place.count("ssm.group_count") * place.count("ssm.state_size")
    parts = zip(_factors(place.config, "ssm_multipliers"), (inner, inner, shared, shared, heads), strict=True)
    return [factor for factor, length in parts for _ in range(length)]


_LAYER = "model.layers.{i}"

NAMES: Names = {
    "token_embd": _linear("model.embed_tokens", "embedding_multiplier"),
    "blk.{i}.attn_norm": _LAYER + ".input_layernorm",
    "blk.{i}.attn_q": _linear(_LAYER + ".self_attn.q_proj", before="attention_in_multiplier"),
    "blk.{i}.attn_k": _linear(_LAYER + ".self_attn.k_proj", "key_multiplier", "attention_in_multiplier"),
    "blk.{i}.attn_v": _linear(_LAYER + ".self_attn.v_proj", before="attention_in_multiplier"),
    "blk.{i}.attn_output": _linear(_LAYER + ".self_attn.o_proj", "attention_out_multiplier"),
    **mamba2.of_mixer(_LAYER + ".mamba"),
    "blk.{i}.ssm_in": scaled(_linear(_LAYER + ".mamba.in_proj", before="ssm_in_multiplier"), _of_mixer),
    "blk.{i}.ssm_out": _linear(_LAYER + ".mamba.out_proj", "ssm_out_multiplier"),
    "blk.{i}.ffn_norm": tensor(_LAYER + ".pre_ff_layernorm.weight"),  # as llama.cpp has it
    "blk.{i}.ffn_gate": _linear(_LAYER + ".feed_forward.gate_proj", "mlp_multipliers"),
    "blk.{i}.ffn_up": _LAYER + ".feed_forward.up_proj",
    "blk.{i}.ffn_down": _linear(_LAYER + ".feed_forward.down_proj", "mlp_multipliers", part=1),
    "output_norm": "model.final_layernorm",
    "output": (
        _linear("lm_head", "lm_head_multiplier"),
        when(
            lambda place: bool(place.config.get("tie_word_embeddings")),
            _linear("model.embed_tokens", "lm_head_multiplier"),
        ),
    ),
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    check_supported(config, "Falcon-H1", hidden_act=("silu", "swish"))
    if flag(config, "mamba_rms_norm"):
        check_supported(
            {"mamba_norm_before_gate": True, **config}, "Falcon-H1", mamba_norm_before_gate=(False,)
        )
    for name in _FACTORS:
        _factors(config, name)
    rope = rope_parameters(config)
    return {
        **sizes(config),
        **rope_base(rope),
        **rope_scaling(config, rope, "Falcon-H1"),
        **rms_epsilon(config, 1e-5),
        **mamba2.keys_of_hybrid(config, "Falcon-H1"),
        "vocab_size": count(config, "vocab_size"),
    }


def forward(g: Graph) -> Outputs:
    """What both make of the same inputs is added."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    g.keys.expect("attention.recurrent_layers", 1)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        h = layer.norm(x, "attn_norm")
        mixed = mamba2.mixer(layer, h, has_norm=layer.has("ssm_norm.weight"))
        x = x + attend(layer, h, shape, rope) + mixed
        layer.tensor("ffn_norm", shape.width)
        x = x + gated(layer, layer.vector(layer.norm(x), "mul", "ffn_norm"), "silu")
    return head(g, x)

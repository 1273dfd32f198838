"""Phi-3.5-MoE: experts chosen by SparseMixer, norms that take off the mean, biases everywhere."""

from __future__ import annotations

from ggufpy.architectures import llama, phi3, qwen2
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    expert_keys,
    head_size,
    number,
)
from ggufpy.architectures._decoder import (
    MOST_LAYERS,
    Gating,
    Shape,
    attend,
    experts,
    head,
    swiglu,
    windows,
)
from ggufpy.architectures._longrope import FACTORS, factors_of, longrope
from ggufpy.architectures._names import Names
from ggufpy.architectures._rope_keys import rope_base, rope_parameters
from ggufpy.errors import UnsupportedModelError
from ggufpy.graph import Graph, Outputs
from ggufpy.graph.nodes import Size

HF_CLASSES = ("PhimoeForCausalLM", "PhiMoEForCausalLM")

_DENSE = ("ffn_gate", "ffn_up", "ffn_down")

NAMES: Names = {
    **FACTORS,
    **{name: theirs for name, theirs in qwen2.NAMES.items() if not name.endswith(_DENSE)},
    **{name: theirs for name, theirs in llama.NAMES.items() if name.endswith(("_exps", "_inp"))},
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; of norms and of the choice, llama.cpp computes others than these say."""
    check_supported(config, "PhiMoE", hidden_act=("silu", "swish"), num_experts_per_tok=(2,))
    rope = rope_parameters(config, 1e6)
    return {
        **phi3.hyperparameters(config),
        **rope_base(rope),
        "rope.dimension_count": head_size(config),
        **longrope(config, _with_magnitude(rope), "PhiMoE"),
        **{
            key: value for key, value in expert_keys(config, "intermediate_size").items() if "feed" not in key
        },
        "attention.layer_norm_epsilon": number(config, "rms_norm_eps", 1e-5),
        "expert_router_jitter": number(config, "router_jitter_noise", 0.01),
    }


def _with_magnitude(rope: Metadata) -> Metadata:
    """That of turned vectors, for which GGUF has one key; Phi has one for short texts and one for long."""
    if rope["rope_type"] == "default":
        return rope
    short, long = number(rope, "short_mscale"), number(rope, "long_mscale")
    if short != long:
        raise UnsupportedModelError(
            f"config.json: short_mscale {short:g} and long_mscale {long:g} are not supported: they differ"
        )
    return {**rope, "attention_factor": long}


def forward(g: Graph) -> Outputs:
    """Phi-3's attention; files that llama.cpp makes have neither these norms nor SparseMixer."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    factors = factors_of(g, rope)
    size: Size = "layer" if g.keys.has("attention.layer_norm_epsilon") else "rms"
    mixes = g.keys.has("expert_router_jitter")
    gating: Gating = "sparsemixer" if mixes else "softmax"
    x = g.embed("token_embd", shape.width)
    for layer, window in zip(g.layers(shape.layers), windows(g, shape, every=MOST_LAYERS + 1), strict=True):
        h = layer.norm(x, "attn_norm", size=size)
        x = x + attend(layer, h, shape, rope, factors=factors, window=window)
        h = layer.norm(x, "ffn_norm", size=size)
        x = x + experts(layer, h, swiglu, gating=gating, normalize=not mixes)
    return head(g, x, size)

"""OLMo 2 and 3: norms of what layers add and of all queries and keys; OLMo 3 has windows, without YaRN."""

from __future__ import annotations

from dataclasses import replace

from ggufpy.architectures import exaone4
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    head_size,
    number,
    rms_epsilon,
    sizes,
    windows_of_layers,
)
from ggufpy.architectures._decoder import Shape, attend, gated, head, windows
from ggufpy.architectures._rope_keys import rope_base, rope_scaling, ropes_by_kind
from ggufpy.errors import UnsupportedModelError
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("Olmo2ForCausalLM", "Olmo3ForCausalLM")

NAMES = {name: theirs for name, theirs in exaone4.NAMES.items() if name != "rope_freqs.weight"}

EVERY = 4  # of so many layers one attends to all, where nothing is said


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    check_supported(config, "OLMo", hidden_act=("silu", "swish"))
    has_windows = config.get("model_type") == "olmo3"
    usual = 5e5 if has_windows else 1e4
    rope, local = ropes_by_kind(config, usual, config.get("rope_theta") or usual)
    keys = {
        **sizes(config),
        "rope.dimension_count": head_size(config),
        **rope_base(rope),
        **rope_scaling(config, rope, "OLMo"),
        **rms_epsilon(config, 1e-5),
        "vocab_size": count(config, "vocab_size"),
    }
    return {**keys, **_windows(config, local, keys["rope.freq_base"])} if has_windows else keys


def _windows(config: Config, rope: Config, base: object) -> Metadata:
    """Keys of layers with a window, which turn by `rope`; base: that of the others."""
    if rope["rope_type"] != "default":
        kind = rope["rope_type"]
        raise UnsupportedModelError(
            f"config.json: RoPE scaling {kind!r:.40} of layers with a window in an OLMo 3"
        )
    keys = windows_of_layers(config, every=EVERY)
    if keys and number(rope, "rope_theta") != base:
        keys["rope.freq_base_swa"] = number(rope, "rope_theta")
    return keys


def forward(g: Graph) -> Outputs:
    """Post-norm transformer; angles are scaled in layers that attend to all."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    local = replace(shape.local_rope(g, rope, rope.base), scaling="none", attention_factor=1.0)
    x = g.embed("token_embd", shape.width)
    for layer, window in zip(g.layers(shape.layers), windows(g, shape, every=EVERY), strict=True):
        turn = local if window else rope
        y = attend(layer, x, shape, turn, norms="rms", window=window)
        x = x + layer.norm(y, "post_attention_norm")
        x = x + layer.norm(gated(layer, x, "silu"), "post_ffw_norm")
    return head(g, x)

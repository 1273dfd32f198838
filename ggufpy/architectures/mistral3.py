"""Ministral 3: Llama's layout, with YaRN and queries that grow with the logarithm of their position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ggufpy.architectures import llama
from ggufpy.architectures._conversion import number
from ggufpy.errors import UnsupportedModelError
from ggufpy.gguf.values import Typed, Value

HF_CLASSES = ("Ministral3ForCausalLM",)

convert_tensors = llama.convert_tensors
forward = llama.forward


def metadata(config: Mapping[str, Any]) -> dict[str, Value | Typed]:
    """`config.json` as GGUF keys; raises UnsupportedModelError unless RoPE is scaled by YaRN."""
    rope = llama.rope_parameters(config)
    if rope["rope_type"] != "yarn":
        kind = rope["rope_type"]
        raise UnsupportedModelError(
            f"config.json: RoPE scaling {kind!r:.40} instead of 'yarn' in a Ministral 3"
        )
    multiplier = number(rope, "mscale_all_dim")
    return {
        **llama.hyperparameters(config),
        **llama.yarn_scaling(config, log_multiplier=multiplier),
        "rope.scaling.yarn_log_multiplier": multiplier,
        "attention.temperature_scale": number(rope, "llama_4_scaling_beta"),
    }

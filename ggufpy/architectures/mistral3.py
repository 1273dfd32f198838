"""Ministral 3: Llama's layout, with YaRN and queries that grow with the logarithm of their position."""

from __future__ import annotations

from ggufpy.architectures import llama
from ggufpy.architectures._conversion import Config, Metadata, number
from ggufpy.architectures._rope_keys import rope_parameters, rope_scaling, yarn_scaling
from ggufpy.errors import UnsupportedModelError

HF_CLASSES = ("Ministral3ForCausalLM", "Mistral3ForConditionalGeneration")

NAMES = llama.NAMES
forward = llama.forward


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; raises UnsupportedModelError for a Ministral without YaRN."""
    rope = rope_parameters(config)
    if config.get("model_type") == "mistral":  # what can see, with Mistral's network
        return {**llama.hyperparameters(config), **rope_scaling(config, rope, "Mistral 3")}
    if rope["rope_type"] != "yarn":
        kind = rope["rope_type"]
        raise UnsupportedModelError(
            f"config.json: RoPE scaling {kind!r:.40} instead of 'yarn' in a Ministral 3"
        )
    multiplier = number(rope, "mscale_all_dim")
    return {
        **llama.hyperparameters(config),
        **yarn_scaling(config, rope, log_multiplier=multiplier),
        "rope.scaling.yarn_log_multiplier": multiplier,
        "attention.temperature_scale": number(rope, "llama_4_scaling_beta"),
    }

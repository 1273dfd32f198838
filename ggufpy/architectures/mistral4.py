"""Mistral Small 4: DeepSeek's network, with experts chosen by softmax, and queries as Ministral's."""

from __future__ import annotations

from ggufpy.architectures import deepseek2
from ggufpy.architectures._conversion import Config, Metadata, check_supported, number
from ggufpy.architectures._decoder import Shape
from ggufpy.architectures._names import Names, tensor
from ggufpy.architectures._rope_keys import original_context, rope_parameters
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("Mistral4ForCausalLM", "Mistral3ForConditionalGeneration")

_EXPERTS = "model.layers.{i}.mlp.experts."

# Gate and up stay one matrix, as llama.cpp's converter has them.
NAMES: Names = {
    **{name: theirs for name, theirs in deepseek2.NAMES.items() if "_exps" not in name},
    "blk.{i}.ffn_gate_up_exps.weight": tensor(_EXPERTS + "gate_up_proj"),
    "blk.{i}.ffn_down_exps.weight": tensor(_EXPERTS + "down_proj"),
}

_SOFTMAX = 1


def covers(config: Config) -> bool:
    """Whether a model that can see has this network, and not Ministral's."""
    return config.get("model_type") == "mistral4"


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; llama.cpp's converter leaves out the temperature."""
    rope = rope_parameters(config)
    check_supported(rope, "Mistral 4", rope_type=("yarn",))
    return {
        **deepseek2.hyperparameters(config, "Mistral 4", _SOFTMAX),
        "attention.temperature_scale": number(rope, "llama_4_scaling_beta"),
        "attention.temperature_length": original_context(config, rope),
    }


def forward(g: Graph) -> Outputs:
    """DeepSeek's network; gate and up of the experts may be two matrices."""
    for layer in g.layers(Shape.read(g).layers):
        if layer.has("ffn_gate_inp.weight") and not layer.has("ffn_gate_exps.weight"):
            layer.shape("ffn_gate_up_exps.weight")  # is what is missing, then
    return deepseek2.forward(g)

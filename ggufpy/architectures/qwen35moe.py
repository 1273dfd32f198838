"""Qwen3.5 with experts in place of the feed-forward network, and one that all tokens share."""

from __future__ import annotations

from ggufpy.architectures import _delta_net, qwen3moe, qwen35
from ggufpy.architectures._conversion import Config, Metadata
from ggufpy.architectures._decoder import experts, shared_expert, swiglu
from ggufpy.architectures._names import Names
from ggufpy.architectures.qwen2moe import keys_of_experts
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES = ("Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration")

NAMES: Names = _delta_net.with_predicting_names({**qwen35.NETS, **qwen3moe.EXPERTS, **qwen3moe.SHARED_EXPERT})


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; weights sum to 1, whatever it says."""
    return {
        **_delta_net.hyperparameters(config, "Qwen3.5-MoE", inner=None),
        **qwen35.sections(config),
        **keys_of_experts({**config, "norm_topk_prob": True}, "Qwen3.5-MoE", normalized=True),
    }


def forward(g: Graph) -> Outputs:
    """Qwen3.5's layers, each with experts."""
    return _delta_net.network(g, qwen35.inputs, mixture)


def mixture(layer: Layer, h: Value) -> Value:
    """Experts whose weights sum to 1, and the shared one."""
    return experts(layer, h, swiglu, normalize=True) + shared_expert(layer, h)

"""Qwen2 with experts in place of the feed-forward network, and one that all tokens share."""

from __future__ import annotations

from ggufpy.architectures import qwen2, qwen3moe
from ggufpy.architectures._conversion import Config, Metadata, check_supported, count, expert_keys
from ggufpy.architectures._decoder import Shape, attend, experts, head, shared_expert, swiglu, windows
from ggufpy.architectures._names import Names
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("Qwen2MoeForCausalLM",)

NAMES: Names = {**qwen2.NAMES, **qwen3moe.EXPERTS, **qwen3moe.SHARED_EXPERT}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    keys = qwen2.hyperparameters(config, "Qwen2-MoE", lambda layer, most: layer < most and layer % 2 == 0)
    return {**keys, **keys_of_experts(config, "Qwen2-MoE", normalized=False)}


def keys_of_experts(config: Config, model: str, normalized: bool) -> Metadata:
    """Keys of experts and of the shared one, which cannot say that a layer has none.

    normalized: whether weights sum to 1 where the file does not say.
    """
    check_supported(
        config, model, decoder_sparse_step=(1,), mlp_only_layers=([],), norm_topk_prob=(False, True)
    )
    keys = {
        **expert_keys(config, "moe_intermediate_size"),
        "expert_shared_feed_forward_length": count(config, "shared_expert_intermediate_size"),
    }
    if config.get("norm_topk_prob", normalized) != normalized:
        keys["expert_weights_norm"] = not normalized
    return keys


def forward(g: Graph) -> Outputs:
    """Qwen2's attention, then experts whose weights are as the softmax of all has them."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    x = g.embed("token_embd", shape.width)
    for layer, window in zip(g.layers(shape.layers), windows(g, shape, every=qwen2.EVERY), strict=True):
        x = x + attend(layer, layer.norm(x, "attn_norm"), shape, rope, window=window)
        h = layer.norm(x, "ffn_norm")
        x = x + experts(layer, h, swiglu) + shared_expert(layer, h)
    return head(g, x)

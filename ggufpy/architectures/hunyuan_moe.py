"""HunYuan with experts, and one expert that all tokens share."""

from __future__ import annotations

from typing import Any

from ggufpy.architectures import hunyuan_dense
from ggufpy.architectures._conversion import Config, Metadata, count
from ggufpy.architectures._decoder import Shape, experts, gated, head, swiglu
from ggufpy.architectures._names import Names, stack
from ggufpy.errors import UnsupportedModelError
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("HunYuanMoEV1ForCausalLM",)

_MLP = "model.layers.{i}.mlp"

NAMES: Names = {
    **{name: theirs for name, theirs in hunyuan_dense.NAMES.items() if "ffn" not in name or "norm" in name},
    "blk.{i}.ffn_gate_inp": _MLP + ".gate.wg",
    "blk.{i}.ffn_gate_exps": stack(_MLP + ".experts.{e}.gate_proj"),
    "blk.{i}.ffn_up_exps": stack(_MLP + ".experts.{e}.up_proj"),
    "blk.{i}.ffn_down_exps": stack(_MLP + ".experts.{e}.down_proj"),
    "blk.{i}.ffn_gate_shexp": _MLP + ".shared_mlp.gate_proj",
    "blk.{i}.ffn_up_shexp": _MLP + ".shared_mlp.up_proj",
    "blk.{i}.ffn_down_shexp": _MLP + ".shared_mlp.down_proj",
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys; numbers per layer must be the same in all."""
    names = ("moe_topk", "moe_intermediate_size", "num_shared_expert", "num_experts")
    config = {**config, **{name: _same(config, name) for name in names}}
    inner = count(config, "moe_intermediate_size", count(config, "intermediate_size"))
    return {
        **hunyuan_dense.hyperparameters(config, "HunYuan-MoE"),
        "expert_count": count(config, "num_experts", most=1024),
        "expert_used_count": count(config, "moe_topk"),
        "expert_feed_forward_length": inner,
        "expert_shared_feed_forward_length": inner * count(config, "num_shared_expert", 1),
    }


def _same(config: Config, name: str) -> Any:
    value = config.get(name)
    if not isinstance(value, list):
        return value
    if len(set(map(str, value))) != 1:
        raise UnsupportedModelError(f"config.json: {name} {value!r:.40}, other numbers in other layers")
    return value[0]


def forward(g: Graph) -> Outputs:
    """HunYuan's attention; experts whose weights sum to 1, and the shared one."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        x = x + hunyuan_dense.attend(layer, layer.norm(x, "attn_norm"), shape, rope)
        h = layer.norm(x, "ffn_norm")
        x = x + experts(layer, h, swiglu, normalize=True) + gated(layer, h, "silu", "_shexp")
    return head(g, x)

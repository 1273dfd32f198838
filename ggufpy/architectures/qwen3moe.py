"""Qwen3 with experts in place of the feed-forward network."""

from __future__ import annotations

from ggufpy.architectures import qwen3
from ggufpy.architectures._conversion import Config, Metadata, check_supported, expert_keys
from ggufpy.architectures._decoder import Shape, attend, experts, head, swiglu
from ggufpy.architectures._names import Names, Place, rows, stack, tensor
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("Qwen3MoeForCausalLM",)

_EXPERTS = "model.layers.{i}.mlp.experts"


def _inner(place: Place) -> int:
    return place.count("expert_feed_forward_length")


EXPERTS: Names = {
    "blk.{i}.ffn_gate_inp": "model.layers.{i}.mlp.gate",
    "blk.{i}.ffn_gate_exps": stack(_EXPERTS + ".{e}.gate_proj"),
    "blk.{i}.ffn_up_exps": stack(_EXPERTS + ".{e}.up_proj"),
    "blk.{i}.ffn_down_exps": stack(_EXPERTS + ".{e}.down_proj"),
    # As transformers 5 has them in memory, and saves them if it is asked to.
    "blk.{i}.ffn_gate_exps.weight": rows(tensor(_EXPERTS + ".gate_up_proj"), lambda p: slice(_inner(p))),
    "blk.{i}.ffn_up_exps.weight": rows(tensor(_EXPERTS + ".gate_up_proj"), lambda p: slice(_inner(p), None)),
    "blk.{i}.ffn_down_exps.weight": tensor(_EXPERTS + ".down_proj"),
}

# Of one that all tokens share, which Qwen3 does not have and others do.
SHARED_EXPERT: Names = {
    "blk.{i}.ffn_gate_inp_shexp": "model.layers.{i}.mlp.shared_expert_gate",
    "blk.{i}.ffn_gate_shexp": "model.layers.{i}.mlp.shared_expert.gate_proj",
    "blk.{i}.ffn_up_shexp": "model.layers.{i}.mlp.shared_expert.up_proj",
    "blk.{i}.ffn_down_shexp": "model.layers.{i}.mlp.shared_expert.down_proj",
}

NAMES: Names = {**qwen3.NAMES, **EXPERTS}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys, which cannot say that a layer has no experts, or weights of another sum."""
    config = {"norm_topk_prob": False, **config}
    check_supported(
        config, "Qwen3-MoE", norm_topk_prob=(True,), decoder_sparse_step=(1,), mlp_only_layers=([],)
    )
    return {
        **qwen3.hyperparameters(config),
        **expert_keys(config, "moe_intermediate_size"),
    }


def forward(g: Graph) -> Outputs:
    """Qwen3's attention, then experts whose weights sum to 1."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        x = x + attend(layer, layer.norm(x, "attn_norm"), shape, rope, norms="rms")
        h = layer.norm(x, "ffn_norm")
        x = x + experts(layer, h, swiglu, normalize=True)
    return head(g, x)

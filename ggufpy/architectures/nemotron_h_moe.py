"""Nemotron-H with experts, chosen with a bias, in place of feed-forward networks, and one that all share."""

from __future__ import annotations

from dataclasses import replace

from ggufpy.architectures import nemotron_h
from ggufpy.architectures._conversion import PREDICTING, Config, Metadata, count, flag, number
from ggufpy.architectures._decoder import choose, plain
from ggufpy.architectures._names import Names, Place, Way, stack, tensor, ways, when
from ggufpy.architectures.nemotron_h import MIXER
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES = nemotron_h.HF_CLASSES

covers = nemotron_h.has_experts

_EXPERTS: Names = {
    "blk.{i}.ffn_gate_inp": MIXER + ".gate",
    "blk.{i}.exp_probs_b.bias": tensor(MIXER + ".gate.e_score_correction_bias"),
    "blk.{i}.ffn_latent_down": MIXER + ".fc1_latent_proj",
    "blk.{i}.ffn_up_exps": stack(MIXER + ".experts.{e}.up_proj"),
    "blk.{i}.ffn_down_exps": stack(MIXER + ".experts.{e}.down_proj"),
    "blk.{i}.ffn_latent_up": MIXER + ".fc2_latent_proj",
    "blk.{i}.ffn_up_shexp": MIXER + ".shared_experts.up_proj",
    "blk.{i}.ffn_down_shexp": MIXER + ".shared_experts.down_proj",
}


def _moved(entry: str | Way | tuple[str | Way, ...], part: int) -> tuple[Way, ...]:
    """As in other layers; behind the last, as in `part` of the layer that predicts later tokens."""

    def changed(way: Way) -> Way:
        def names(place: Place) -> list[str]:
            here = f"backbone.layers.{place.layer}."
            is_last = place.layer == len(nemotron_h.kinds(place.config))
            return [
                name.replace(here, f"mtp.layers.{part}." if is_last else here) for name in way.names(place)
            ]

        return replace(way, names=names)

    return tuple(changed(way) for way in ways(entry))


def _predicting(name: str) -> Way:
    return when(lambda place: place.layer == len(nemotron_h.kinds(place.config)), f"mtp.layers.{name}")


NAMES: Names = {
    **{name: _moved(entry, 0) if "{i}" in name else entry for name, entry in nemotron_h.NAMES.items()},
    **{name: _moved(entry, 1) for name, entry in _EXPERTS.items()},
    "blk.{i}.post_attention_norm": _predicting("1.norm"),
    "blk.{i}.nextn.eh_proj": _predicting("0.eh_proj"),
    "blk.{i}.nextn.enorm": _predicting("0.enorm"),
    "blk.{i}.nextn.hnorm": _predicting("0.hnorm"),
    "blk.{i}.nextn.shared_head_norm": _predicting("1.final_layernorm"),
}

NOT_NEEDED = nemotron_h.NOT_NEEDED


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys, which know one layer for later tokens, of attention and experts."""
    kinds = config.get("mtp_layers_block_type") or config.get("mtp_hybrid_override_pattern") or "*E"
    predicting = config.get(PREDICTING) == 2 and kinds in (
        "*E",
        ["attention", "moe"],
        ["full_attention", "moe"],
    )
    keys: Metadata = {
        **nemotron_h.hyperparameters(config, "Nemotron-H", predicting=predicting),
        "expert_count": count(config, "n_routed_experts", 8, most=1024),
        "expert_used_count": count(config, "num_experts_per_tok", 2),
        "expert_feed_forward_length": count(config, "moe_intermediate_size"),
        "expert_shared_count": count(config, "n_shared_experts", 1),
        "expert_shared_feed_forward_length": count(config, "moe_shared_expert_intermediate_size"),
        "expert_weights_norm": flag(config, "norm_topk_prob", True),
        "expert_weights_scale": number(config, "routed_scaling_factor", 1.0),
        "expert_group_count": count(config, "n_group", 1),
        "expert_group_used_count": count(config, "topk_group", 1),
    }
    if config.get("moe_latent_size"):
        keys["moe_latent_size"] = count(config, "moe_latent_size")
    return keys


def forward(g: Graph) -> Outputs:
    """Nemotron-H's layers."""
    return nemotron_h.network_of(g, _feed_forward)


def _feed_forward(layer: Layer, h: Value) -> Value:
    """Experts without gates, of inputs that may be made narrower before; some layers may have none."""
    k = layer.keys
    if layer.has("ffn_up.weight"):
        return plain(layer, h, "relu2")
    k.get("expert_shared_count", 1)
    inner, latent = k.integer("expert_feed_forward_length"), k.integer("moe_latent_size", 0, least=0)
    chosen = choose(layer, h, gating="sigmoid")
    x = layer.linear(h, "ffn_latent_down", outputs=latent) if latent else h
    y = layer.linear_of_experts(x, "ffn_up_exps", chosen, outputs=inner).apply("relu2")
    y = layer.linear_of_experts(y, "ffn_down_exps", chosen, outputs=x.width)
    y = layer.total(y * chosen.weights)
    y = layer.linear(y, "ffn_latent_up", outputs=h.width) if latent else y
    return y + plain(layer, h, "relu2", "_shexp")

"""Nemotron-H: each layer is Mamba 2's, attention without RoPE, or a feed-forward network of squared ReLU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ggufpy.architectures import mamba2
from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    kinds_of_layers,
    number,
    sizes,
    with_defaults,
)
from ggufpy.architectures._decoder import Shape, attend, head, plain
from ggufpy.architectures._names import Names
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES = ("NemotronHForCausalLM",)

MIXER = "backbone.layers.{i}.mixer"

NAMES: Names = {
    "token_embd": "backbone.embeddings",
    "blk.{i}.attn_norm": "backbone.layers.{i}.norm",
    "blk.{i}.attn_q": MIXER + ".q_proj",
    "blk.{i}.attn_k": MIXER + ".k_proj",
    "blk.{i}.attn_v": MIXER + ".v_proj",
    "blk.{i}.attn_output": MIXER + ".o_proj",
    **mamba2.of_mixer(MIXER),
    "blk.{i}.ffn_up": MIXER + ".up_proj",
    "blk.{i}.ffn_down": MIXER + ".down_proj",
    "output_norm": "backbone.norm_f",
    "output": "lm_head",
}

NOT_NEEDED = ("mtp.",)  # layers that predict later tokens, where GGUF has no place for them

_SIZES = ("mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size", "conv_kernel")

# What a layer may be, in a list of words or a text of letters.
_KINDS = {
    **dict.fromkeys(("M", "mamba", "linear_attention"), "mixer"),
    **dict.fromkeys(("*", "attention", "full_attention"), "attention"),
    **dict.fromkeys(("-", "mlp"), "network"),
    **dict.fromkeys(("E", "moe"), "experts"),
}


def kinds(config: Config) -> list[str]:
    """What each layer is: "mixer", "attention", "network" or "experts"; raises FormatError."""
    words = _words(config)
    layers = len(words) if isinstance(words, list) else 1
    key = "layers_block_type" if config.get("layers_block_type") else "hybrid_override_pattern"
    return kinds_of_layers({key: words, "num_hidden_layers": layers}, _KINDS, key)


def has_experts(config: Config) -> bool:
    """Whether some layers have experts; the configuration of each model has keys about them."""
    words = _words(config)
    return isinstance(words, list) and any(word in ("E", "moe") for word in words)


def _words(config: Config) -> Any:
    words = config.get("layers_block_type") or config.get("hybrid_override_pattern")
    return list(words) if isinstance(words, str) else words


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    return hyperparameters(config, "Nemotron-H")


def hyperparameters(config: Config, model: str, *, predicting: bool = False) -> Metadata:
    """Keys of all models of this family; predicting: there is a layer for later tokens behind the others."""
    layers = kinds(config)
    config = with_defaults(config, head_dim=config.get("attention_head_dim") or 128)
    config = {**config, "num_hidden_layers": len(layers)}
    check_supported(config, model, mlp_hidden_act=("relu2",), mamba_hidden_act=("silu", "swish"))
    inner = count(config, "mamba_num_heads") * count(config, "mamba_head_dim")
    networks = {"network": count(config, "intermediate_size")}
    if "experts" in layers:
        networks["experts"] = count(config, "moe_intermediate_size")
    kv_heads = count(config, "num_key_value_heads", count(config, "num_attention_heads"))
    after = int(predicting)
    return {
        **sizes(config),
        "block_count": len(layers) + after,
        "context_length": 1 << 20,  # there is no limit
        "attention.head_count_kv": [kv_heads if kind == "attention" else 0 for kind in layers]
        + [kv_heads] * after,
        "feed_forward_length": [networks.get(kind, 0) for kind in layers]
        + [networks.get("experts", 0)] * after,
        "attention.layer_norm_epsilon": number(config, "layer_norm_epsilon", 1e-5),
        **mamba2.state_keys(config, model, inner, _SIZES),
        **({"nextn_predict_layers": 1} if predicting else {}),
        "vocab_size": count(config, "vocab_size"),
    }


def forward(g: Graph) -> Outputs:
    """A norm before each layer, and nothing else between them."""
    return network_of(g, lambda layer, h: plain(layer, h, "relu2"))


def network_of(g: Graph, feed_forward: Callable[[Layer, Value], Value]) -> Outputs:
    """The network; feed_forward: of layers that are neither Mamba 2's nor attention."""
    shape = Shape.read(g)
    lengths = g.keys.integers("feed_forward_length", shape.layers, least=0)
    recurrent = [heads + length == 0 for heads, length in zip(shape.kv_heads, lengths, strict=True)]
    g.keys.expect("attention.recurrent_layers", recurrent)
    x = g.embed("token_embd", shape.width)
    for layer in g.layers(shape.layers):
        h = layer.norm(x, "attn_norm")
        if recurrent[layer.index]:
            x = x + mamba2.mixer(layer, h)
        elif lengths[layer.index]:
            x = x + feed_forward(layer, h)
        else:
            x = x + attend(layer, h, shape, None)
    return head(g, x)

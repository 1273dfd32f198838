"""ModernBERT: pre-norm, gated, rotary places; of three layers two see a window around each token."""

from __future__ import annotations

from dataclasses import replace

from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    count,
    number,
    windows_of_layers,
)
from ggufpy.architectures._decoder import Shape, attend, gated, windows
from ggufpy.architectures._encoder import (
    activation,
    activation_key,
    classifier_keys,
    encoder_keys,
    is_classifier,
)
from ggufpy.architectures._names import Names, Place, when
from ggufpy.architectures._pooling import MEAN, pooled
from ggufpy.architectures._rope_keys import rope_base, rope_scaling, ropes_by_kind
from ggufpy.graph import Graph, Outputs

HF_CLASSES = ("ModernBertModel", "ModernBertForMaskedLM", "ModernBertForSequenceClassification")
NOT_NEEDED = ("head.", "decoder.")  # what predicts masked tokens


def _classifies(place: Place) -> bool:
    return is_classifier(place.config)


NAMES: Names = {
    "token_embd": "model.embeddings.tok_embeddings",
    "token_embd_norm": "model.embeddings.norm",
    "blk.{i}.attn_norm": "model.layers.{i}.attn_norm",
    "blk.{i}.attn_qkv": "model.layers.{i}.attn.Wqkv",
    "blk.{i}.attn_output": "model.layers.{i}.attn.Wo",
    "blk.{i}.ffn_norm": "model.layers.{i}.mlp_norm",
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.Wi",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.Wo",
    "output_norm": "model.final_norm",
    "cls": when(_classifies, "head.dense"),
    "cls.norm": when(_classifies, "head.norm"),
    "cls.output": when(_classifies, "classifier"),
}

_EVERY = 3  # of so many layers the first sees all

# What the settings are called elsewhere.
_OWN = {
    "hidden_act": "hidden_activation",
    "rope_theta": "global_rope_theta",
    "rope_local_base_freq": "local_rope_theta",
    "sliding_window": "local_attention",
    "sliding_window_pattern": "global_attn_every_n_layers",
}


def metadata(config: Config) -> Metadata:
    """`config.json` as GGUF keys."""
    check_supported(config, "ModernBERT", classifier_activation=("gelu",))
    config = {**config, **{ours: config.get(theirs) for ours, theirs in _OWN.items()}}
    rope, local = ropes_by_kind(config, 160000.0, 10000.0)
    return {
        **encoder_keys(config),
        "attention.layer_norm_epsilon": number(config, "norm_eps", 1e-5),
        **rope_base(rope),
        "rope.freq_base_swa": number(local, "rope_theta"),
        "rope.scaling.type": "none",
        **rope_scaling(config, rope, "ModernBERT"),
        **windows_of_layers(config, every=_EVERY, first=True),
        "vocab_size": count(config, "vocab_size"),
        "hidden_activation": "gelu",
        **activation_key(config, "ModernBERT"),
        **classifier_keys(config),
    }


def forward(g: Graph) -> Outputs:
    """A window reaches half of its size ahead and back; its layers turn by a base of their own."""
    shape = Shape.read(g)
    rope = shape.rope(g, halves=True)
    local = replace(shape.local_rope(g, rope, 10000.0), scaling="none")
    function = activation(g)
    x = g.norm(g.embed("token_embd", shape.width), "token_embd_norm", size="layer")
    of_layers = windows(g, shape, every=_EVERY, first=True)
    for layer, window in zip(g.layers(shape.layers), of_layers, strict=True):
        h = layer.norm(x, "attn_norm", size="layer") if layer.index or layer.has("attn_norm.weight") else x
        turn, reach = (local, window // 2 + 1) if window else (rope, None)
        x = x + attend(layer, h, shape, turn, window=reach, causal=False)
        x = x + gated(layer, layer.norm(x, "ffn_norm", size="layer"), function)
    x = g.norm(x, "output_norm", size="layer")
    return {"embeddings": pooled(g, x, function="gelu_erf", of_classifier=MEAN)}

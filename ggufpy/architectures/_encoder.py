"""What encoders share: every token sees all others, and a norm follows each sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ggufpy.architectures._conversion import (
    Config,
    Metadata,
    check_supported,
    class_of,
    count,
    layer_count,
    number,
)
from ggufpy.architectures._decoder import Shape, attend
from ggufpy.architectures._pooling import CLS, MEAN, RANK, pooled
from ggufpy.errors import FormatError
from ggufpy.graph import Graph, Layer, Outputs, Value
from ggufpy.graph.values import Function

# Activations of transformers, and functions here.
ACTIVATIONS: Mapping[str, Function] = {
    "gelu": "gelu_erf",
    "gelu_fast": "gelu",
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
}


def activation(g: Graph, usual: str = "gelu") -> Function:
    """What the file says, in transformers' words; usual: where it says nothing."""
    return ACTIVATIONS[g.keys.text("hidden_activation", tuple(ACTIVATIONS), usual)]


def encode(g: Graph, x: Value, feed: Callable[[Layer, Value], Value], *, rope: bool = False) -> Outputs:
    """Layers over the summed embeddings x, each with a feed-forward network `feed`; rope: halves turn."""
    shape = Shape.read(g)
    turn = shape.rope(g, halves=True) if rope else None
    x = g.norm(x, "token_embd_norm", size="layer")
    for layer in g.layers(shape.layers):
        y = attend(layer, x, shape, turn, causal=False)
        x = layer.norm(x + y, "attn_output_norm", size="layer")
        x = layer.norm(x + feed(layer, x), "layer_output_norm", size="layer")
    return {"embeddings": pooled(g, x)}


def embedded(g: Graph) -> Value:
    """Rows of the tokens, as of a first text: that of type 0 is added to each."""
    width = g.keys.integer("embedding_length", most=1 << 20)
    return g.embed("token_embd", width) + g.embed("token_types", width, by="first")


def encoder_keys(config: Config) -> Metadata:
    """Keys of all encoders."""
    return {
        "context_length": count(config, "max_position_embeddings"),
        "embedding_length": count(config, "hidden_size"),
        "block_count": layer_count(config),
        "feed_forward_length": count(config, "intermediate_size"),
        "attention.head_count": count(config, "num_attention_heads"),
        "attention.causal": False,
    }


def activation_key(config: Config, model: str, key: str = "hidden_act", usual: str = "gelu") -> Metadata:
    """What `activation` reads, where it is not the usual. Raises UnsupportedModelError for an unknown one."""
    check_supported(config, model, **{key: tuple(ACTIVATIONS)})
    name = config.get(key) or usual
    return {} if name == usual else {"hidden_activation": name}


def layer_epsilon(config: Config, default: float = 1e-12) -> Metadata:
    """What LayerNorm adds to the variance."""
    return {"attention.layer_norm_epsilon": number(config, "layer_norm_eps", default)}


def is_classifier(config: Config) -> bool:
    """Whether that has a head for labels."""
    return class_of(config).endswith("ForSequenceClassification")


def classifier_keys(config: Config) -> Metadata:
    """That a classifier ranks texts, by which labels, and of what. Raises FormatError for senseless ones."""
    if not is_classifier(config):
        return {}
    labels = count(config, "num_labels", 2, most=1 << 16)
    names = config.get("id2label") or {str(i): f"LABEL_{i}" for i in range(labels)}
    if not isinstance(names, dict) or sorted(names) != sorted(map(str, range(len(names)))):
        raise FormatError(f"config.json: id2label is {names!r:.60}, it must name labels from 0 on")
    keys: Metadata = {
        "pooling_type": RANK,
        "classifier.output_labels": [str(names[str(i)]) for i in range(len(names))],
    }
    pooling = config.get("classifier_pooling")
    if pooling is not None:
        check_supported(config, "classifying", classifier_pooling=("cls", "mean"))
        keys["classifier.pooling_type"] = CLS if pooling == "cls" else MEAN
    return keys

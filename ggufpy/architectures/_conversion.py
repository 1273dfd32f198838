"""What architecture files share to turn `config.json` into metadata: checked values, sizes of decoders."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from ggufpy.architectures._decoder import MOST_LAYERS
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.gguf.values import Typed, Value

Config = Mapping[str, Any]
Metadata = dict[str, Value | Typed]
Kind = TypeVar("Kind")

PREDICTING = "num_nextn_predict_layers"  # layers that predict tokens after the next one


def count(config: Config, key: str, default: int | None = None, *, most: int = (1 << 31) - 1) -> int:
    """A positive whole number; `default` where the key is absent or null. Raises FormatError for others."""
    value = config.get(key)
    value = default if value is None else value
    if type(value) is not int or not 0 < value <= most:
        limit = f", at most {most}" if type(value) is int and value > most else ""
        raise FormatError(f"config.json: {key} is {value!r:.40}, it must be a positive whole number{limit}")
    return value


def number(config: Config, key: str, default: float | None = None) -> float:
    """A finite number above 0, as `count`."""
    value = config.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise FormatError(f"config.json: {key} is {value!r:.40}, it must be a number above 0")
    return float(value)


def flag(config: Config, key: str, default: bool = False) -> bool:
    """True or false, as `count`."""
    value = config.get(key)
    value = default if value is None else value
    if not isinstance(value, bool):
        raise FormatError(f"config.json: {key} is {value!r:.40}, it must be true or false")
    return value


def with_defaults(config: Config, **defaults: Any) -> Config:
    """The configuration, with what is meant where a key is absent or null."""
    return {**defaults, **{key: value for key, value in config.items() if value is not None}}


def class_of(config: Config) -> str:
    """The checkpoint's class in transformers."""
    return str((config.get("architectures") or [""])[0])


def check_supported(config: Config, model: str, **supported: Sequence[Any]) -> None:
    """Refuse what GGUF cannot say of a `model`: keys with other values than those supported, or null.

    quantization_config: ways of quantizing that the model's table of names reads. Raises
    UnsupportedModelError.
    """
    for key, values in {"quantization_config": (), **supported}.items():
        value = config.get(key)
        value = value.get("quant_method") if isinstance(value, dict) else value
        if value is not None and value not in values:
            raise UnsupportedModelError(
                f"config.json: {key} {value!r:.40} is not supported for {model} models"
            )


def sizes(
    config: Config, *, head_dim: int | None = None, inner: str | None = "intermediate_size"
) -> Metadata:
    """Sizes of a decoder with attention; head_dim: of heads whose size is not in the configuration.

    inner: the key of the width of feed-forward networks, None for models that have only experts.
    """
    heads = count(config, "num_attention_heads")
    kv_heads = count(config, "num_key_value_heads", heads)
    if heads % kv_heads:
        raise FormatError("config.json: num_key_value_heads does not divide num_attention_heads")
    size = head_size(config, head_dim)
    return {
        "context_length": count(config, "max_position_embeddings"),
        "embedding_length": count(config, "hidden_size"),
        "block_count": layer_count(config),
        **({"feed_forward_length": count(config, inner)} if inner else {}),
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": size,
        "attention.value_length": size,
    }


def layer_count(config: Config) -> int:
    """Layers, each of which has names that are looked for."""
    return count(config, "num_hidden_layers", most=MOST_LAYERS)


def with_predicting_layers(config: Config, keys: Metadata) -> Metadata:
    """Keys that count layers for tokens after the next, too; converting notes how many there really are."""
    more = config.get(PREDICTING)
    blocks = keys["block_count"]
    if not isinstance(more, int) or not isinstance(blocks, int) or not more:
        return keys
    return {**keys, "block_count": blocks + more, "nextn_predict_layers": more}


def expert_keys(config: Config, inner: str) -> Metadata:
    """Keys of experts; inner: the key of their width. transformers 4 and 5 spell their number differently."""
    return {
        "expert_count": count(config, "num_local_experts", config.get("num_experts"), most=1024),
        "expert_used_count": count(config, "num_experts_per_tok"),
        "expert_feed_forward_length": count(config, inner),
    }


def head_size(config: Config, default: int | None = None) -> int:
    """Values of an attention head, by default what the width gives to each."""
    share = count(config, "hidden_size") // count(config, "num_attention_heads")
    size = count(config, "head_dim", default or share)
    if size % 2:
        raise FormatError(f"config.json: heads of size {size} cannot be rotated, it must be even")
    return size


def windows_of_layers(config: Config, *, every: int, first: bool = False) -> Metadata:
    """Which layers look back a window only; raises FormatError.

    every: of so many layers one does not, where nothing is said: the last, or `first`; 0: none does.
    """
    layers = layer_count(config)

    def all_but_each(nth: int) -> list[bool]:
        return [bool(nth and (layer + (not first)) % nth) for layer in range(layers)]

    kinds = config.get("layer_types")
    if kinds is None:
        local = all_but_each(count(config, "sliding_window_pattern", every) if every else 0)
    else:
        known = ("full_attention", "sliding_attention")
        if not isinstance(kinds, list) or len(kinds) != layers or any(kind not in known for kind in kinds):
            wanted = f"one of {known[0]} and {known[1]} for each of {layers} layers"
            raise FormatError(f"config.json: layer_types is {kinds!r:.60}, it must have {wanted}")
        local = [kind == "sliding_attention" for kind in kinds]
    if not any(local):
        return {}
    keys: Metadata = {"attention.sliding_window": count(config, "sliding_window")}
    if local != all_but_each(every):
        keys["attention.sliding_window_pattern"] = local
    return keys


def kinds_of_layers(config: Config, kinds: Mapping[Any, Kind], key: str = "layer_types") -> list[Kind]:
    """For each layer what its word in the list `key` stands for in `kinds`; raises FormatError for others."""
    layers, words = layer_count(config), config.get(key)
    if not isinstance(words, list) or len(words) != layers or any(word not in [*kinds] for word in words):
        wanted = f"one of {', '.join(map(str, kinds))} for each of {layers} layers"
        raise FormatError(f"config.json: {key} is {words!r:.60}, it must have {wanted}")
    return [kinds[word] for word in words]


def listed_layers(config: Config, key: str, default: Collection[int] = ()) -> list[bool]:
    """Which layers have their number in the list `key`; raises FormatError for numbers of no layer."""
    layers = range(layer_count(config))
    listed = default if config.get(key) is None else config[key]
    if not isinstance(listed, Collection) or any(number not in layers for number in listed):
        problem = f"it must be a list of numbers from 0 to {layers.stop - 1}"
        raise FormatError(f"config.json: {key} is {listed!r:.60}, {problem}")
    return [layer in listed for layer in layers]


def rms_epsilon(config: Config, default: float = 1e-6) -> Metadata:
    """What RMSNorm adds to the mean square."""
    return {"attention.layer_norm_rms_epsilon": number(config, "rms_norm_eps", default)}

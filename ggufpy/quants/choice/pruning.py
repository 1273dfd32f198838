"""Leaving out layers: the others move up, in names and in metadata."""

from __future__ import annotations

import re

from ggufpy.errors import FormatError
from ggufpy.gguf.values import Typed, ValueType
from ggufpy.quants.choice.planning import Metadata, with_entries
from ggufpy.quants.choice.recipe import layer_of

# Metadata with one element per layer, where it is an array.
_PER_LAYER = (
    *("attention.head_count", "attention.head_count_kv", "attention.sliding_window_pattern"),
    *("attention.recurrent_layers", "feed_forward_length", "swiglu_clamp_exp", "swiglu_clamp_shexp"),
)


def check_layers(pruned: frozenset[int], layers: int) -> None:
    """Raise FormatError if a layer to be left out is not there, or none would be left."""
    absent = sorted(layer for layer in pruned if not 0 <= layer < layers)
    if absent:
        raise FormatError(f"cannot leave out layer {absent[0]}: the model has layers 0 to {layers - 1}")
    if pruned and len(pruned) == layers:
        raise FormatError(f"cannot leave out all {layers} layers; keep one")


def pruned_name(name: str, pruned: frozenset[int]) -> str | None:
    """What a tensor is called afterwards; None if it goes with its layer."""
    layer = layer_of(name)
    if layer is None:
        return name
    if layer in pruned:
        return None
    return re.sub(r"^blk\.\d+", f"blk.{layer - sum(other < layer for other in pruned)}", name)


def pruned_metadata(metadata: Metadata, architecture: str, pruned: frozenset[int], layers: int) -> Metadata:
    """The metadata of what is left: the number of layers, at its end, and arrays with an element for each."""
    result = dict(metadata)
    for key in (f"{architecture}.{name}" for name in _PER_LAYER):
        entry = result.get(key)
        if isinstance(entry, Typed) and isinstance(entry.value, list) and len(entry.value) == layers:
            left = [value for layer, value in enumerate(entry.value) if layer not in pruned]
            result[key] = Typed(left, entry.type)  # type: ignore[arg-type]
    count = Typed(layers - len(pruned), ValueType.U32)
    return with_entries(result, {f"{architecture}.block_count": count})

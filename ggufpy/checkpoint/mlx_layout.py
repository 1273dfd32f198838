"""What MLX changes in a model when it saves it, packed or not, turned back to what transformers saves.

Source: mlx_lm models/*.py, sanitize.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ggufpy.gguf import sources
from ggufpy.gguf.tensors import TensorSource

# Matrices of all experts are one tensor.
_SWITCH = ".switch_mlp."
_OF_MIXTRAL = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}

# Models whose norms multiply by one more than their weights, which MLX adds to these.
_MODELS = ("qwen3_next", "qwen3_5")
_NORMS = (
    *(".input_layernorm.weight", ".post_attention_layernorm.weight", "model.norm.weight"),
    *(".q_norm.weight", ".k_norm.weight"),
)


def as_transformers_saves(
    config: Mapping[str, Any], tensors: Mapping[str, TensorSource]
) -> dict[str, TensorSource]:
    """The tensors of a checkpoint, changed if it is MLX's."""
    model = config.get("model_type")
    has_ones = isinstance(model, str) and model.startswith(_MODELS) and any(map(_is_conv, tensors.values()))
    plain = {}
    for name, tensor in tensors.items():
        if has_ones and name.endswith(_NORMS) and len(tensor.shape) == 1:
            plain[name] = sources.mapped(tensor, lambda x: x - np.float32(1))
        else:
            plain |= {each.name: each for each in experts(tensor)}
    return plain


def experts(source: TensorSource) -> Iterator[TensorSource]:
    """Of a tensor of all experts each matrix, under the name that it has elsewhere; others as they are."""
    if _SWITCH not in source.name or len(source.shape) != 3:
        yield source
        return
    before, _, after = source.name.partition(_SWITCH)
    if before.endswith("block_sparse_moe"):
        projection, _, part = after.partition(".")
        after = f"{_OF_MIXTRAL.get(projection, projection)}.{part}"
    for index in range(source.shape[0]):
        yield replace(sources.matrix(source, index), name=f"{before}.experts.{index}.{after}")


def _is_conv(tensor: TensorSource) -> bool:
    """Whether it is a convolution whose axes are in MLX's order: that of the one input is the last."""
    return tensor.name.endswith("conv1d.weight") and len(tensor.shape) == 3 and tensor.shape[2] == 1

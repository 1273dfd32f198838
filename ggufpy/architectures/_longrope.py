"""LongRoPE (arXiv 2402.13753): frequencies divided by factors, others for longer texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.architectures._conversion import Config, Metadata, count, number
from ggufpy.architectures._names import Names, constant
from ggufpy.architectures._rope_keys import original_context, rope_parameters
from ggufpy.errors import FormatError, UnsupportedModelError
from ggufpy.graph import Graph
from ggufpy.graph.rope import Rope

_LONG, _SHORT = "rope_factors_long.weight", "rope_factors_short.weight"


def _factors(key: str) -> Callable[[Mapping[str, Any]], NDArray[np.float32] | None]:
    """What each frequency is divided by, where RoPE is scaled."""

    def read(config: Mapping[str, Any]) -> NDArray[np.float32] | None:
        rope = rope_parameters(config)
        if rope["rope_type"] == "default":
            return None
        factors = rope.get(key)
        if not isinstance(factors, list) or not factors or not all(map(_is_factor, factors)):
            raise FormatError(f"config.json: {key} is {factors!r:.40}, it must be a list of numbers above 0")
        return np.array(factors, np.float32)

    return read


def _is_factor(x: Any) -> bool:
    return isinstance(x, int | float) and 0 < x < math.inf


FACTORS: Names = {_LONG: constant(_factors("long_factor")), _SHORT: constant(_factors("short_factor"))}


def longrope(config: Config, rope: Mapping[str, Any], model: str) -> Metadata:
    """Keys of LongRoPE, whose factors are tensors; early files call it otherwise.

    Source of the magnitude: transformers modeling_rope_utils.py, _compute_longrope_parameters.
    """
    original = original_context(config, {**config, **rope})
    keys: Metadata = {"rope.scaling.original_context_length": original}
    kind = rope["rope_type"]
    if kind == "default":
        return keys
    if kind not in ("longrope", "su", "yarn"):
        raise UnsupportedModelError(
            f"config.json: RoPE scaling {kind!r:.40} is not supported for {model} models"
        )
    factor = number(rope, "factor", count(config, "max_position_embeddings") / original)
    growth = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 < original else 1.0
    return {**keys, "rope.scaling.attn_factor": number(rope, "attention_factor", growth)}


def factors_of(g: Graph, rope: Rope) -> str:
    """The name of the factors for this context; a text that outgrew its own would change from its start."""
    for name in (_LONG, _SHORT):
        g.optional(name, rope.dimensions // 2)
    return _LONG if g.context > rope.original_context else _SHORT

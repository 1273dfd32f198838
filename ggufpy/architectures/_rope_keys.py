"""RoPE as config.json has it, in all spellings, and as GGUF's keys say it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.architectures._conversion import Config, Metadata, count, head_size, number
from ggufpy.errors import FormatError, UnsupportedModelError


def rope_parameters(config: Config, theta: float = 10000.0) -> dict[str, Any]:
    """RoPE's parameters in one spelling, that of transformers 5; theta: the base of models that name none.

    Before it, `rope_parameters` was `rope_scaling`, with `rope_theta` beside it, and `rope_type` was `type`.
    """
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, dict):
        raise FormatError(f"config.json: rope_parameters is {given!r:.40}, it must be an object")
    return {
        "rope_theta": config.get("rope_theta") or theta,
        "rope_type": given.get("type") or "default",
        **given,
    }


def ropes_by_kind(config: Config, theta: float, local_theta: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """RoPE of layers that attend to all, and of those with a window; transformers 5 nests them."""
    given = config.get("rope_parameters") or {}
    if not isinstance(given, dict) or not given.keys() & {"full_attention", "sliding_attention"}:
        local = {"rope_theta": config.get("rope_local_base_freq")}
        return rope_parameters(config, theta), rope_parameters(local, local_theta)
    full, local = (
        rope_parameters({"rope_parameters": given.get(f"{kind}_attention")}, base)
        for kind, base in (("full", theta), ("sliding", local_theta))
    )
    return full, local


def rope_of_kinds(config: Config, model: str, others: Collection[str] = ()) -> Metadata:
    """Keys of RoPE of Gemma's layers without and with a window, of which only the first are scaled.

    others: as for `rope_scaling`.
    """
    rope, local = ropes_by_kind(config, 1e6, 1e4)
    kind = local["rope_type"]
    if kind != "default":
        raise UnsupportedModelError(
            f"config.json: RoPE scaling {kind!r:.40} of layers with a window in a {model}"
        )
    return {
        **rope_base(rope),
        **rope_scaling(config, rope, model, others),
        "rope.freq_base_swa": number(local, "rope_theta"),
    }


def rope_base(rope: Mapping[str, Any]) -> Metadata:
    """The base of RoPE's frequencies."""
    return {"rope.freq_base": number(rope, "rope_theta")}


def partial_rope(config: Config, rope: Mapping[str, Any], size: int, default: float) -> Metadata:
    """How many of the `size` values of a head turn; default: which part, where nothing is said."""
    part = number({**config, **rope}, "partial_rotary_factor", default)
    turned = int(size * part)
    if turned < 2 or turned > size or turned % 2:
        problem = f"so {turned} of {size} values of a head would turn"
        raise FormatError(f"config.json: partial_rotary_factor is {part:g}, {problem}")
    return {"rope.dimension_count": turned}


def rope_scaling(
    config: Config, rope: Mapping[str, Any], model: str, others: Collection[str] = ()
) -> Metadata:
    """The keys of RoPE scaling; raises UnsupportedModelError for kinds that GGUF cannot say of a `model`.

    others: kinds that need no keys, besides "default".
    """
    kind = rope["rope_type"]
    match kind:
        case "linear":
            return {"rope.scaling.type": "linear", "rope.scaling.factor": number(rope, "factor")}
        case "yarn":
            return yarn_scaling(config, rope, log_multiplier=0.0)
        # Dynamic scaling starts where the file's context ends.
        case "default" | "dynamic":
            return {}
    if kind in others:
        return {}
    raise UnsupportedModelError(f"config.json: RoPE scaling {kind!r:.40} is not supported for {model} models")


def yarn_scaling(config: Config, rope: Mapping[str, Any], *, log_multiplier: float) -> Metadata:
    """The keys of YaRN.

    The runtime scales cos and sin by m(1) / m(log_multiplier), m(x) = 1 + 0.1 x ln(factor), and by
    attn_factor, which is written where a checkpoint asks for another scale than that. Source: transformers
    modeling_rope_utils.py, _compute_yarn_parameters; llama.cpp llama-context.cpp.
    """
    factor = number(rope, "factor")
    keys: Metadata = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": original_context(config, rope),
    }

    def scale(multiplier: float) -> float:
        return 1 + 0.1 * multiplier * math.log(max(factor, 1))

    wanted = scale(1)
    if rope.get("attention_factor") is not None:
        wanted = number(rope, "attention_factor")
    elif rope.get("mscale") and rope.get("mscale_all_dim"):
        wanted = scale(number(rope, "mscale")) / scale(number(rope, "mscale_all_dim"))
    attn_factor = wanted * scale(log_multiplier) / scale(1)
    if not math.isclose(attn_factor, 1, rel_tol=1e-6):
        keys["rope.scaling.attn_factor"] = attn_factor
    for theirs, ours in (("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")):
        if rope.get(theirs) is not None:
            keys[f"rope.scaling.{ours}"] = number(rope, theirs)
    if rope.get("truncate") is False:
        keys["rope.scaling.yarn_truncate"] = False
    return keys


def original_context(config: Config, rope: Mapping[str, Any]) -> int:
    """Positions that the model was first trained for."""
    return count(rope, "original_max_position_embeddings", count(config, "max_position_embeddings"))


def llama3_factors(config: Config) -> NDArray[np.float32] | None:
    """What each frequency is divided by: 1 for short wavelengths, `factor` for long ones, a mean between.

    Returns (head size / 2,), or nothing for other kinds of RoPE. Source: transformers modeling_rope_utils.py,
    _compute_llama3_parameters.
    """
    rope = rope_parameters(config)
    if rope["rope_type"] != "llama3":
        return None
    size, factor = head_size(config), number(rope, "factor")
    low, high = number(rope, "low_freq_factor"), number(rope, "high_freq_factor")
    if low >= high:
        raise FormatError(
            f"config.json: low_freq_factor is {low:g}, it must be below high_freq_factor {high:g}"
        )
    wavelengths = 2 * np.pi * number(rope, "rope_theta") ** (np.arange(0, size, 2) / size)
    smooth = np.clip((original_context(config, rope) / wavelengths - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)

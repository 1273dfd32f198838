"""A Llama forward pass in NumPy as transformers computes it, from a checkpoint's own names and configuration.

Source: transformers modeling_llama.py, modeling_ministral3.py, modeling_rope_utils.py.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def forward(
    weights: Mapping[str, NDArray[Any]], config: Mapping[str, Any], tokens: list[int]
) -> NDArray[np.float32]:
    """Logits (tokens, vocabulary), computed in f64."""
    w = {name: x.astype(np.float64) for name, x in weights.items()}
    x = w["model.embed_tokens.weight"][tokens]
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        x = x + attention(w, name + "self_attn.", config, norm(x, w[name + "input_layernorm.weight"], config))
        h = norm(x, w[name + "post_attention_layernorm.weight"], config)
        gate = linear(w, name + "mlp.gate_proj", h)
        x = x + linear(
            w, name + "mlp.down_proj", gate / (1 + np.exp(-gate)) * linear(w, name + "mlp.up_proj", h)
        )
    head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
    logits: Array = norm(x, w["model.norm.weight"], config) @ head.T
    return logits.astype(np.float32)


def norm(x: Array, weight: Array, config: Mapping[str, Any]) -> Array:
    epsilon: float = config["rms_norm_eps"]
    scaled: Array = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon)
    return scaled * weight


def linear(w: Mapping[str, Array], name: str, x: Array) -> Array:
    y: Array = x @ w[name + ".weight"].T + w.get(name + ".bias", 0.0)
    return y


def attention(w: Mapping[str, Array], name: str, config: Mapping[str, Any], x: Array) -> Array:
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    q, k, v = (  # (heads, tokens, size)
        linear(w, f"{name}{part}_proj", x).reshape(len(x), -1, size).swapaxes(0, 1) for part in "qkv"
    )
    q, k = rotate(q, config) * query_scale(len(x), config), rotate(k, config)
    k, v = (y.repeat(heads // kv_heads, axis=0) for y in (k, v))
    scores = q @ k.swapaxes(1, 2) / math.sqrt(size) + np.triu(np.full((len(x), len(x)), -np.inf), 1)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = shares / shares.sum(axis=-1, keepdims=True) @ v
    return linear(w, f"{name}o_proj", mixed.swapaxes(0, 1).reshape(len(x), -1))


def rotate(x: Array, config: Mapping[str, Any]) -> Array:
    frequencies, factor = rope(config, x.shape[-1])
    angles = np.arange(x.shape[1])[:, None] * np.concatenate([frequencies, frequencies])
    first, second = np.split(x, 2, axis=-1)
    rotated: Array = x * np.cos(angles) + np.concatenate([-second, first], axis=-1) * np.sin(angles)
    return rotated * factor


def query_scale(n: int, config: Mapping[str, Any]) -> Array:
    rope = config.get("rope_parameters", {})
    original: int = rope.get("original_max_position_embeddings", n)
    beta: float = rope.get("llama_4_scaling_beta", 0)
    return 1 + beta * np.log(1 + np.arange(n) // original)[:, None]


def rope(config: Mapping[str, Any], size: int) -> tuple[Array, float]:
    """Frequencies (size / 2,), and what cos and sin are multiplied with."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    base = given.get("rope_theta", config["rope_theta"])
    frequencies = base ** -(np.arange(0, size, 2) / size)
    match given.get("rope_type", given.get("type", "default")):
        case "linear":
            return frequencies / given["factor"], 1.0
        case "llama3":
            return np.array([llama3(f, given) for f in frequencies]), 1.0
        case "yarn":
            return yarn(frequencies, base, given), attention_factor(given)
    return frequencies, 1.0


def llama3(frequency: float, given: Mapping[str, Any]) -> float:
    factor, low, high = (given[k] for k in ("factor", "low_freq_factor", "high_freq_factor"))
    original, wavelength = given["original_max_position_embeddings"], 2 * math.pi / frequency
    if wavelength < original / high:
        return frequency
    if wavelength > original / low:
        return frequency / float(factor)
    smooth = (original / wavelength - low) / (high - low)
    return float((1 - smooth) * frequency / factor + smooth * frequency)


def yarn(frequencies: Array, base: float, given: Mapping[str, Any]) -> Array:
    size, original = 2 * len(frequencies), given["original_max_position_embeddings"]

    def dimension(rotations: float) -> float:
        return size * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(dimension(given.get("beta_fast", 32))), 0)
    high = min(math.ceil(dimension(given.get("beta_slow", 1))), size - 1)
    ramp = np.clip((np.arange(size // 2) - low) / (high - low or 0.001), 0, 1)
    factor: float = given["factor"]
    return frequencies / factor * ramp + frequencies * (1 - ramp)


def attention_factor(given: Mapping[str, Any]) -> float:
    def scale(multiplier: float) -> float:
        return 0.1 * multiplier * math.log(given["factor"]) + 1

    if "attention_factor" in given:
        return float(given["attention_factor"])
    if given.get("mscale") and given.get("mscale_all_dim"):
        return scale(given["mscale"]) / scale(given["mscale_all_dim"])
    return scale(1)

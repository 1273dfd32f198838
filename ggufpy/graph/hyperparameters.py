"""What the metadata of a GGUF file says about the shape of the network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ggufpy.errors import FormatError

MAX_LAYERS = 512  # llama.cpp's LLAMA_MAX_LAYERS
MAX_CONTEXT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding: pair i of a head's first `dimensions` values turns by position * angle(i).

    scaling is "none", "linear" or "yarn". Source: RoFormer (arXiv 2104.09864), YaRN (arXiv 2309.00071).
    """

    dimensions: int
    base: float
    scaling: str
    factor: float
    original_context: int
    attention_factor: float
    log_multiplier: float
    beta_fast: float
    beta_slow: float

    def frequencies(self, factors: list[float] | None = None) -> tuple[list[float], float]:
        """Angles per position, one per pair, and the magnitude of the turned vectors.

        factors: divisors of the angles, one per pair (the tensor `rope_freqs.weight`).
        """
        pairs = range(self.dimensions // 2)
        plain = [self.base ** (-2 * i / self.dimensions) / (factors[i] if factors else 1.0) for i in pairs]
        if self.scaling == "none":
            return plain, self.attention_factor
        scaled = [angle / self.factor for angle in plain]
        if self.scaling == "linear":
            return scaled, self.attention_factor
        # Fast pairs keep their angle, slow ones are stretched; between the two corrections they mix.
        low = max(math.floor(self._correction(self.beta_fast)), 0)
        high = min(math.ceil(self._correction(self.beta_slow)), self.dimensions - 1)
        kept = [1 - min(max((i - low) / max(0.001, high - low), 0.0), 1.0) for i in pairs]
        mixed = [s * (1 - k) + p * k for s, p, k in zip(scaled, plain, kept, strict=True)]
        return mixed, self.attention_factor * self._magnitude()

    def _correction(self, turns: float) -> float:
        """The pair that turns `turns` times over the original context."""
        return (
            self.dimensions
            * math.log(self.original_context / (turns * 2 * math.pi))
            / (2 * math.log(self.base))
        )

    def _magnitude(self) -> float:
        growth = math.log(self.factor) if self.factor > 1 else 0.0
        magnitude = 0.1 * growth + 1
        if self.log_multiplier:
            return magnitude / (0.1 * self.log_multiplier * growth + 1)
        return magnitude


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The shape of a decoder-only transformer; head counts are per layer."""

    architecture: str
    block_count: int
    context_length: int
    embedding_length: int
    head_count: tuple[int, ...]
    head_count_kv: tuple[int, ...]
    key_length: int
    value_length: int
    norm_epsilon: float
    rope: Rope
    temperature_scale: float

    @classmethod
    def read(cls, metadata: Mapping[str, Any], source: str) -> Hyperparameters:
        """Read GGUF metadata; raises FormatError, naming `source`, for what is missing or senseless."""
        keys = _Keys(metadata, source)
        blocks = keys.integer("block_count", 1, MAX_LAYERS)
        width = keys.integer("embedding_length", 1, 1 << 20)
        context = keys.integer("context_length", 1, MAX_CONTEXT)
        heads = keys.per_layer("attention.head_count", blocks)
        head_dim = width // heads[0]
        key_length = keys.integer("attention.key_length", 1, 1 << 16, head_dim)
        return cls(
            architecture=keys.architecture,
            block_count=blocks,
            context_length=context,
            embedding_length=width,
            head_count=heads,
            head_count_kv=keys.per_layer("attention.head_count_kv", blocks, heads),
            key_length=key_length,
            value_length=keys.integer("attention.value_length", 1, 1 << 16, head_dim),
            norm_epsilon=keys.number("attention.layer_norm_rms_epsilon"),
            rope=_read_rope(keys, key_length, context),
            temperature_scale=keys.number("attention.temperature_scale", 0.0),
        )


def _read_rope(keys: _Keys, key_length: int, context: int) -> Rope:
    # "rope.scale_linear" is what files of 2023 have.
    old_factor = keys.number("rope.scale_linear", 1.0)
    factor = keys.number("rope.scaling.factor", old_factor) or 1.0  # 0 stands for none in some files
    scaling = keys.text("rope.scaling.type", ("none", "linear", "yarn"), "linear" if factor != 1 else "none")
    return Rope(
        dimensions=keys.even("rope.dimension_count", key_length),
        base=keys.number("rope.freq_base", 10000.0, above=1.0),
        scaling=scaling,
        factor=factor,
        original_context=keys.integer("rope.scaling.original_context_length", 1, MAX_CONTEXT, context),
        attention_factor=keys.number("rope.scaling.attn_factor", 1.0),
        log_multiplier=keys.number("rope.scaling.yarn_log_multiplier", 0.0),
        beta_fast=keys.number("rope.scaling.yarn_beta_fast", 32.0, above=0.0),
        beta_slow=keys.number("rope.scaling.yarn_beta_slow", 1.0, above=0.0),
    )


class _Keys:
    """Checked access to the metadata of one architecture."""

    def __init__(self, metadata: Mapping[str, Any], source: str) -> None:
        self._metadata = metadata
        self._source = source
        self.architecture = str(metadata.get("general.architecture", ""))

    def _get(self, key: str, default: Any) -> Any:
        value = self._metadata.get(f"{self.architecture}.{key}", default)
        if value is None:
            raise self._error(key, "is missing; is this a complete model?")
        return value

    def _error(self, key: str, problem: str) -> FormatError:
        return FormatError(f"{self._source}: metadata key '{self.architecture}.{key}' {problem}")

    def integer(self, key: str, least: int, most: int, default: int | None = None) -> int:
        value = self._get(key, default)
        if not _is_integer(value) or not least <= value <= most:
            raise self._error(key, f"is {value!r:.40}, must be a whole number from {least} to {most}")
        return int(value)

    def even(self, key: str, most: int) -> int:
        """An even number from 2 to `most`, which is the default."""
        value = self.integer(key, 2, most, most)
        if value % 2:
            raise self._error(key, f"is {value}, must be even: values turn in pairs")
        return value

    def number(self, key: str, default: float | None = None, above: float | None = None) -> float:
        """A finite number, zero or more, or more than `above`."""
        value = self._get(key, default)
        is_number = isinstance(value, float) or _is_integer(value)
        if not is_number or not math.isfinite(value) or (value < 0 if above is None else value <= above):
            wanted = "zero or more" if above is None else f"more than {above:g}"
            raise self._error(key, f"is {value!r:.40}, must be a finite number, {wanted}")
        return float(value)

    def text(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = self._get(key, default)
        if value not in allowed:
            raise self._error(key, f"is {value!r:.40}; ggufpy runs {', '.join(allowed)}")
        return str(value)

    def per_layer(self, key: str, layers: int, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """A number for all layers or a list with one for each."""
        value = self._get(key, default)
        values = tuple(value) if isinstance(value, list | tuple) else (value,) * layers
        if len(values) < layers or not all(_is_integer(v) and 0 < v <= 1 << 16 for v in values):
            raise self._error(
                key, f"is {value!r:.40}, must be one positive number or one per layer ({layers})"
            )
        return values[:layers]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

"""Rotary position embedding: how fast each pair of a head's values turns."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ggufpy.graph.keys import Keys


@dataclass(frozen=True, slots=True)
class Rope:
    """Pair i of a head's first `dimensions` values turns by angle * frequency(i).

    halves: value i is paired with i + dimensions / 2, else 2 i with 2 i + 1. scaling is "none", "linear" or
    "yarn". truncate: YaRN mixes frequencies from a whole pair on, to a whole pair. Source: RoFormer (arXiv
    2104.09864), YaRN (arXiv 2309.00071).
    """

    dimensions: int
    halves: bool
    base: float
    scaling: str
    factor: float
    original_context: int
    attention_factor: float
    log_multiplier: float
    beta_fast: float
    beta_slow: float
    truncate: bool

    @classmethod
    def read(cls, keys: Keys, head_size: int, *, halves: bool) -> Rope:
        """From metadata. Raises FormatError."""
        dimensions = keys.integer("rope.dimension_count", head_size, least=2, most=head_size)
        if dimensions % 2:
            raise keys.error("rope.dimension_count", f"is {dimensions}, must be even: values turn in pairs")
        keys.get("rope.dimension_sections", [])  # of texts, whose four angles are one
        # "rope.scale_linear" is what files of 2023 have.
        old_factor = keys.number("rope.scale_linear", 1.0)
        factor = keys.number("rope.scaling.factor", old_factor) or 1.0  # 0 stands for none in some files
        kinds = ("none", "linear", "yarn")
        rope = cls(
            dimensions=dimensions,
            halves=halves,
            base=keys.number("rope.freq_base", 10000.0, above=1.0),
            scaling=keys.text("rope.scaling.type", kinds, "linear" if factor != 1 else "none"),
            factor=factor,
            original_context=original_context(keys),
            attention_factor=keys.number("rope.scaling.attn_factor", 1.0),
            log_multiplier=keys.number("rope.scaling.yarn_log_multiplier", 0.0),
            beta_fast=keys.number("rope.scaling.yarn_beta_fast", 32.0, above=0.0),
            beta_slow=keys.number("rope.scaling.yarn_beta_slow", 1.0, above=0.0),
            # A key of our own: llama.cpp always rounds the corrections, which does little.
            truncate=keys.flag("rope.scaling.yarn_truncate", True),
        )
        # What llama.cpp's converter copies and llama.cpp does not read: fine if it says the same.
        magnitude = rope.frequencies()[1]
        said = keys.number("rope.scaling.yarn_attn_factor", magnitude)
        is_same = math.isclose(said, magnitude, rel_tol=1e-4)
        keys.expect("rope.scaling.yarn_attn_factor", said if is_same else magnitude)
        return rope

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
        low, high = self._correction(self.beta_fast), self._correction(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, self.dimensions - 1)
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


def original_context(keys: Keys) -> int:
    """Positions that the model was first trained for."""
    return keys.integer("rope.scaling.original_context_length", keys.integer("context_length"))

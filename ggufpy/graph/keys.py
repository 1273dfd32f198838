"""Checked access to the metadata of one architecture; what was read is remembered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ggufpy.errors import FormatError, UnsupportedModelError

MAX_INTEGER = 2**31 - 1

# Keys that describe a model and do not change what it computes.
_HARMLESS = (
    "context_length",
    "expert_feed_forward_length",
    "expert_shared_feed_forward_length",
    "feed_forward_length",
    "rope.scaling.finetuned",
    "tensor_data_layout",
    "vocab_size",
)

# Keys that say "no" with these values, whatever the architecture.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "attention.scale": (0,),
    "attention.sliding_window": (0,),
    "attn_logit_softcapping": (0,),
    "embedding_scale": (0, 1),
    "expert_count": (0,),
    "expert_group_count": (0, 1),
    "expert_group_used_count": (0, 1),
    "expert_used_count": (0,),
    "expert_weights_scale": (0, 1),
    "final_logit_softcapping": (0,),
    "leading_dense_block_count": (0,),
    "logit_scale": (0, 1),
    "nextn_predict_layers": (0,),
    "residual_scale": (0, 1),
    "rope.dimension_sections": (0,),
    "use_parallel_residual": (False,),
}


class Keys:
    """Metadata of the architecture that `general.architecture` names; keys are without its prefix.

    Every method raises FormatError, naming `source` and the key, for what is missing or senseless.
    """

    def __init__(self, metadata: Mapping[str, Any], source: str) -> None:
        self.source = source
        self.architecture = str(metadata.get("general.architecture", ""))
        self._metadata = metadata
        self._read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, unchecked."""
        self._read.add(key)
        value = self._metadata.get(f"{self.architecture}.{key}", default)
        if value is None:
            raise self.error(key, "is missing; is this a complete model?")
        return value

    def has(self, key: str) -> bool:
        """Whether the file has the key; it does not count as read."""
        return f"{self.architecture}.{key}" in self._metadata

    def error(self, key: str, problem: str) -> FormatError:
        """The error about a key."""
        return FormatError(f"{self.source}: metadata key '{self.architecture}.{key}' {problem}")

    def integer(
        self, key: str, default: int | None = None, *, least: int = 1, most: int = MAX_INTEGER
    ) -> int:
        """A whole number from `least` to `most`."""
        value = self.get(key, default)
        if not _is_integer(value) or not least <= value <= most:
            raise self.error(key, f"is {value!r:.40}, must be a whole number from {least} to {most}")
        return int(value)

    def number(self, key: str, default: float | None = None, *, above: float | None = None) -> float:
        """A finite number, zero or more, or more than `above`."""
        value = self.get(key, default)
        least = 0.0 if above is None else above
        if not _is_number(value) or value < least or (above is not None and value == above):
            wanted = "zero or more" if above is None else f"more than {above:g}"
            raise self.error(key, f"is {value!r:.40}, must be a finite number, {wanted}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or False."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"is {value!r:.40}, must be true or false")
        return value

    def text(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        """One of the texts `allowed`."""
        value = self.get(key, default)
        if value not in allowed:
            raise self.error(key, f"is {value!r:.40}; ggufpy runs {', '.join(allowed)}")
        return str(value)

    def integers(
        self,
        key: str,
        layers: int,
        default: int | tuple[int, ...] | None = None,
        *,
        least: int = 1,
        most: int = 1 << 16,
    ) -> tuple[int, ...]:
        """One whole number for each layer, from one for all or a list."""
        value = self.get(key, default)
        values = tuple(value) if isinstance(value, list | tuple) else (value,) * layers
        if len(values) < layers or not all(_is_integer(v) and least <= v <= most for v in values):
            wanted = "one positive number" if least == 1 else f"one number from {least}"
            raise self.error(key, f"is {value!r:.40}, must be {wanted} or one per layer ({layers})")
        return values[:layers]

    def pattern(self, key: str, layers: int, default: int, *, first: bool = False) -> tuple[bool, ...]:
        """A flag for each layer, from a list or from a number n: of n layers the last is off, or the first.

        For 0 all are.
        """
        value = self.get(key, default)
        if isinstance(value, list | tuple):
            if len(value) < layers or not all(v in (0, 1) for v in value):
                raise self.error(key, f"is {value!r:.40}, must be a number or a flag per layer ({layers})")
            return tuple(bool(v) for v in value[:layers])
        every = self.integer(key, default, least=0)
        return tuple(bool(every) and (i + (not first)) % every != 0 for i in range(layers))

    def expect(self, key: str, wanted: Any) -> None:
        """Refuse a file that has another value than `wanted`; a file without the key is fine.

        Raises UnsupportedModelError.
        """
        value = self.get(key, wanted)
        if value != wanted:
            raise UnsupportedModelError(
                f"{self.source}: metadata key '{self.architecture}.{key}' is {value!r:.40}; "
                f"ggufpy runs this architecture with {wanted!r} only"
            )

    def check_all_read(self, *, attends: bool, turns: bool, has_windows: bool, scans: bool) -> None:
        """Raise UnsupportedModelError for a key that nobody read and that may change the mathematics.

        Keys about attention, RoPE, windows or state spaces say nothing where the architecture has none.
        """
        prefix = f"{self.architecture}."
        for name in self._metadata:
            key = name.removeprefix(prefix)
            if key == name or key in self._read or key in _HARMLESS:
                continue
            value = self._metadata[name]  # only now: to read a vocabulary takes time
            if _is_neutral(key, value):
                continue
            if key.startswith("attention.") and not attends:
                continue
            if key.startswith("rope.") and not turns:
                continue
            if key.endswith(("_swa", "sliding_window_pattern")) and not has_windows:
                continue
            if key.startswith("ssm.") and not scans:
                continue
            raise UnsupportedModelError(
                f"{self.source}: metadata key '{name}' is {value!r:.40}, and ggufpy does not know what it "
                f"changes in architecture '{self.architecture}'"
            )


def _is_neutral(key: str, value: Any) -> bool:
    values = value if isinstance(value, list | tuple) else [value]
    return all(isinstance(each, bool | int | float) and each in _NEUTRAL.get(key, ()) for each in values)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (isinstance(value, float) or _is_integer(value)) and math.isfinite(value)

"""What converting makes of weights that others had quantized."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ggufpy.checkpoint.quantized import PackedWeights
from ggufpy.checkpoint.quantized.method import Error, How, Weight
from ggufpy.gguf.tensors import TensorSource
from ggufpy.quants.choice.planning import Planned
from ggufpy.quants.choice.presets import Preset, find_preset

_AGAIN = "dequantized and quantized again, which adds errors"


def described(preset: Preset, sources: Sequence[TensorSource]) -> Preset:
    """What a file of floats and blocks calls itself: by the type of blocks that most weights are of."""
    count = Counter[str]()
    for source in sources:
        if source.type.block_size > 1:
            count[source.type.name] += source.rows * source.columns
    return find_preset(count.most_common(1)[0][0]) if count else preset


def numbers_of(packed: PackedWeights | None) -> dict[str, TensorSource]:
    """The numbers of weights whose blocks alone do not have them, or have them nearly only."""
    weights = packed.weights.values() if packed else ()
    return {each.floats.name: each.floats for each in weights if each.floats}


@dataclass(frozen=True, slots=True)
class Origin:
    """Which weights were packed, if there are such; parts: the checkpoint's names of what each tensor has."""

    packed: PackedWeights | None
    parts: Mapping[str, Sequence[str]]

    def summary(self, planned: Sequence[Planned]) -> Iterator[str]:
        """A line for each outcome: how many weights, of which types, and how far from what was packed.

        Errors are known once tensors are written.
        """
        if self.packed is None:
            return
        types: dict[str, Counter[str]] = defaultdict(Counter)
        errors = []
        for each in planned:
            for name in self.parts.get(each.tensor.name, ()):
                if (weight := self.packed.weights.get(name)) is not None:
                    how = _how(weight, each)
                    types[how][each.tensor.type.label] += 1
                    errors += [weight.error] if weight.error and how is How.NEARLY else []
        for outcome in (*How, _AGAIN):
            if types[outcome]:
                listed = ", ".join(f"{n} {label}" for label, n in types[outcome].most_common())
                more = _relative(errors) if outcome is How.NEARLY else ""
                yield f"{self.packed.method}: {types[outcome].total()} weights {outcome} ({listed}){more}"


def _how(weight: Weight, planned: Planned) -> str:
    type = planned.tensor.type
    if type is not planned.source.type or type.block_size == 1:
        return How.AS_FLOATS if type.block_size == 1 else _AGAIN
    if weight.error is not None and weight.error.total and not weight.error.squares:
        return How.EXACTLY
    return weight.how


def _relative(errors: Sequence[Error]) -> str:
    """Root mean square of all errors over that of the weights."""
    total = sum(error.total for error in errors)
    return f", relative error {(sum(error.squares for error in errors) / total) ** 0.5:.2g}" if total else ""

"""What converting makes of weights that others had quantized."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ggufpy.checkpoint.quantized import PackedWeights
from ggufpy.checkpoint.quantized.method import Error, How, Weight
from ggufpy.gguf.tensors import TensorSource
from ggufpy.gguf.types import GGMLType
from ggufpy.quants import decode
from ggufpy.quants.choice.planning import Planned
from ggufpy.quants.choice.presets import Preset, find_preset

Bytes = NDArray[np.uint8]

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
    """Which weights were packed, if there are such; parts: the checkpoint's names of what each tensor has.

    errors: of tensors that get another type, by their names; slabs: the numbers of each that were read last.
    """

    packed: PackedWeights | None
    parts: Mapping[str, Sequence[str]]
    errors: dict[str, Error] = field(default_factory=dict)
    slabs: dict[str, Bytes] = field(default_factory=dict)

    def watched(self, source: TensorSource) -> TensorSource:
        """`source`, whose numbers are kept for `measured` if it was packed."""
        if not self._weights(source.name):
            return source

        def read(start: int, stop: int) -> Bytes:
            data = source.read(start, stop)
            self.slabs[source.name] = data
            return data

        return replace(source, read=read)

    def measured(self, planned: Planned) -> Planned:
        """`planned`, made of a watched tensor: how far its type is from that is noted as it is read."""
        tensor, source = planned.tensor, planned.source
        if not self._weights(source.name) or tensor.type in (source.type, GGMLType.F32):
            return planned
        error = self.errors[source.name] = Error()

        def read(start: int, stop: int) -> Bytes:
            data = tensor.read(start, stop)
            error.add(decode(self.slabs.pop(source.name), source.type), decode(data, tensor.type))
            return data

        return replace(planned, tensor=replace(tensor, read=read))

    def _weights(self, name: str) -> list[Weight]:
        weights = self.packed.weights if self.packed else {}
        return [weights[part] for part in self.parts.get(name, ()) if part in weights]

    def summary(self, planned: Sequence[Planned]) -> Iterator[str]:
        """A line for each outcome: how many weights, of which types, and how far from what was packed.

        Errors are known once tensors are written.
        """
        if self.packed is None:
            return
        types: dict[str, Counter[str]] = defaultdict(Counter)
        errors: dict[str, list[Error]] = defaultdict(list)
        for each in planned:
            for weight in self._weights(each.tensor.name):
                how = _how(weight, each)
                types[how][each.tensor.type.label] += 1
                errors[how] += [weight.error] if weight.error and how is How.NEARLY else []
            if each.tensor.name in self.errors:
                errors[_how(self._weights(each.tensor.name)[0], each)].append(self.errors[each.tensor.name])
        for outcome in (*How, _AGAIN):
            if types[outcome]:
                listed = ", ".join(f"{n} {label}" for label, n in types[outcome].most_common())
                more = _relative(errors[outcome])
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

"""Which linears of a network are rounded together: those that read the same value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ggufpy.gguf.types import GGMLType
from ggufpy.graph import Value
from ggufpy.graph.nodes import Linear
from ggufpy.quants.rounding import KINDS
from ggufpy.runtime.stages import Stage


@dataclass(frozen=True, slots=True)
class Group:
    """Linears that read the same value; added: what their outputs are added to, if they are.

    route: the weights of a token's experts, where each has matrices of its own.
    """

    reads: Value
    added: Value | None
    route: Value | None
    tensors: tuple[str, ...]

    def values(self, number: int) -> dict[str, Value]:
        """What is needed of a run, under names that are this group's own."""
        reads = {f"{number} reads": self.reads}
        return reads if self.added is None else {**reads, f"{number} added": self.added}


def groups_of(stage: Stage, types: Mapping[str, GGMLType]) -> list[Group]:
    """The linears of a layer whose tensors are to be rounded, in the order in which they run."""
    found: dict[tuple[Value, Value | None, Value | None], list[str]] = {}
    for linear in stage.linears():
        if _can_be_rounded(linear) and types.get(linear.matrices[0].tensor) in KINDS:
            key = linear.x, linear.add if linear.route is None else None, linear.route
            found.setdefault(key, []).append(linear.matrices[0].tensor)
    return [Group(*key, tuple(tensors)) for key, tensors in found.items()]


def _can_be_rounded(linear: Linear) -> bool:
    return not linear.per_head and len(linear.matrices) == 1

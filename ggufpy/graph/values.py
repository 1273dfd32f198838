"""Values, and the nodes that make them: what a graph consists of, whatever its ops are.

A value has a shape per token: (n,) or (heads, n). Nothing is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ggufpy.graph.ops import Ops

Function = Literal["silu", "gelu", "gelu_erf", "gelu_quick", "relu", "relu2", "sigmoid", "softplus", "tanh"]
Rows = Literal["all", "wanted", "texts"]


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """`shape` floats for each row that its node works on. Sums and products of values are values."""

    shape: tuple[int, ...]
    graph: Ops = field(repr=False)

    @property
    def width(self) -> int:
        """Floats per row."""
        return math.prod(self.shape)

    def __add__(self, other: Value | float) -> Value:
        return self.graph.add(self, other)

    def __mul__(self, other: Value | float) -> Value:
        return self.graph.multiply(self, other)

    __radd__ = __add__
    __rmul__ = __mul__

    def __getitem__(self, part: slice) -> Value:
        """Values of the last axis, from .. to."""
        return self.graph.slice(self, part)

    def apply(self, function: Function) -> Value:
        """function(x), value by value."""
        return self.graph.apply(self, function)

    def view(self, *shape: int) -> Value:
        """The same values in another shape."""
        return self.graph.view(self, shape)

    def flat(self) -> Value:
        """The same values in one axis."""
        return self.view(self.width)

    def split(self, *sizes: int) -> list[Value]:
        """Parts of the last axis, one after the other."""
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return [self[start : start + size] for start, size in zip(starts, sizes, strict=True)]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Node:
    """An op. Fields that are values are its inputs. rows: those of the batch that it runs on."""

    outputs: tuple[Value, ...]
    rows: Rows = "all"
    inputs: tuple[Value, ...] = field(init=False, repr=False)
    """The values that the op reads, in the order of its fields."""

    def __post_init__(self) -> None:
        found: list[Value] = []
        for name in _names(type(self)):
            value = getattr(self, name)
            if isinstance(value, Value):
                found.append(value)
            elif isinstance(value, tuple):
                found += [item for item in value if isinstance(item, Value)]
        object.__setattr__(self, "inputs", tuple(found))

    def reading(self, new: Callable[[Value], Value]) -> Node:
        """The same op on other inputs."""
        changes: dict[str, Any] = {}
        for name in _names(type(self)):
            value = getattr(self, name)
            if isinstance(value, Value):
                changes[name] = new(value)
            elif isinstance(value, tuple):
                changes[name] = tuple(new(item) if isinstance(item, Value) else item for item in value)
        return replace(self, **changes)


def _names(kind: type[Node]) -> tuple[str, ...]:
    """The fields of a kind of node that may be inputs."""
    if kind not in _NAMES:
        common = ("outputs", "rows", "inputs")
        _NAMES[kind] = tuple(each.name for each in fields(kind) if each.name not in common)
    return _NAMES[kind]


_NAMES: dict[type[Node], tuple[str, ...]] = {}

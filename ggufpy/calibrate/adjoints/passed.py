"""What adjoints read: the values that a pass forward made of one context of tokens, and the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ggufpy.graph import Node, Value

# Floats of one precision throughout: f32 for use, f64 where tests differentiate.
Array = NDArray[Any]

# Inputs of a node, and the gradients there; those of an input that is there twice add up.
Gradients = Iterator[tuple[Value, Array]]


@dataclass(frozen=True, slots=True)
class Passed:
    """One context of tokens, from an empty one: places 0, 1 and so on.

    nodes: all that ran. values: (tokens, *shape) each. weight: a tensor's floats in its shape, by its name.
    """

    nodes: Sequence[Node]
    values: Mapping[Value, Array]
    weight: Callable[[str], Array]
    makers: dict[Value, Node] = field(init=False)

    def __post_init__(self) -> None:
        makers = {value: node for node in self.nodes for value in node.outputs}
        object.__setattr__(self, "makers", makers)

    def __getitem__(self, value: Value) -> Array:
        return self.values[value]


def dot(x: Array, y: Array) -> Array:
    """The sums of x * y over the last axis, which stays."""
    product: Array = np.einsum("...i,...i->...", x, y)[..., None]
    return product

"""Scales on their way through a graph: which values are divided by them, and which tensors take them back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ggufpy.graph import Node, Value
from ggufpy.graph.nodes import (
    Affine,
    Attention,
    Binary,
    Concat,
    Copy,
    Keep,
    Linear,
    Slice,
    Total,
    Unary,
    Vector,
    View,
)

Ids = NDArray[np.int64]


class Blocked(Exception):
    """Something would see the scales."""


class Owned(Protocol):
    """What a flow needs to know of tensors."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """By name."""

    def are_own(self, *names: str | None) -> bool:
        """Whether nothing else uses these."""


@dataclass(frozen=True, eq=False, slots=True)
class Change:
    """A tensor becomes itself times scales[ids] ** power, where ids are not negative.

    ids: as many axes as the tensor has, or fewer last ones, each as long or 1.
    """

    tensor: str
    ids: Ids
    power: float

    def factors(self, scales: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the tensor is multiplied with: (of the shape of ids)."""
        powers = scales.astype(np.float64) ** self.power
        return np.where(self.ids < 0, 1.0, powers[np.maximum(self.ids, 0)]).astype(np.float32)

    def only(self, which: Ids) -> Change:
        """With these scales alone."""
        return replace(self, ids=np.where(np.isin(self.ids, which), self.ids, -1))


@dataclass(frozen=True, eq=False, slots=True)
class Scaled:
    """A value divided by scales[ids] ** power, of its shape, and the tensors that must change for that.

    route: in slots of experts the ids are those of expert 0, the next one's are `stride` more.
    """

    ids: Ids
    changes: tuple[Change, ...] = ()
    route: Value | None = None
    stride: int = 0
    power: float = 1.0

    def same(self, other: Scaled) -> bool:
        """Whether two values are scaled alike."""
        return (self.power, self.route) == (other.power, other.route) and np.array_equal(self.ids, other.ids)


class Flow:
    """From a maker's scaled output to the linears that take the scales back.

    Raises Blocked where other nodes read what is scaled, or an output is. makers, consumers: tensors that
    are divided, and multiplied. powers: to which consumers are.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        index: int,
        start: Scaled,
        tensors: Owned,
        readers: Mapping[Value, Sequence[Node]],
        outputs: frozenset[Value],
    ) -> None:
        self._tensors, self._readers, self._outputs = tensors, readers, outputs
        self._values: dict[Value, Scaled] = {}
        self._route, self._stride = start.route, start.stride
        self.makers, self.consumers = list(start.changes), list[Change]()
        self.linears: list[Linear] = []
        self.powers: set[float] = set()
        self._pending = 0  # nodes that will read scaled values
        self._put(nodes[index].outputs[0], start.ids, 1.0)
        while self._pending:
            index += 1
            scaled = self._values.keys() & nodes[index].inputs
            if scaled:
                self._pending -= len(scaled)
                self._through(nodes[index])

    def _put(self, value: Value, ids: Ids, power: float) -> None:
        if (ids < 0).all():
            return
        if value in self._outputs:
            raise Blocked
        self._values[value] = Scaled(ids, (), self._route, self._stride, power)
        self._pending += len(self._readers.get(value, ()))

    def _through(self, node: Node) -> None:
        if isinstance(node, Linear):
            return self._linear(node)
        if isinstance(node, Keep | Attention):
            return self._attention(node)
        if isinstance(node, Binary):
            return self._binary(node)
        if isinstance(node, Vector):
            return self._vector(node)
        if isinstance(node, Concat):
            parts = [self._ids(part) for part in node.parts]
            (power,) = {self._values[part].power for part in node.parts if part in self._values}
            return self._put(node.outputs[0], np.concatenate(parts, axis=-1), power)
        x = self._values.get(getattr(node, "x", None))  # type: ignore[arg-type]
        if x is None:
            raise Blocked
        return self._put(node.outputs[0], self._alone(node, x), x.power * (1 + _is_square(node)))

    def _alone(self, node: Node, x: Scaled) -> Ids:
        """The scales of what a node makes of x alone."""
        if isinstance(node, Copy) or (isinstance(node, Unary) and node.function in ("relu", "relu2")):
            return x.ids
        if isinstance(node, Affine) and node.offset == 0 and (node.low, node.high) == (-math.inf, math.inf):
            return x.ids
        if isinstance(node, Slice):
            return x.ids[..., node.start : node.start + node.outputs[0].shape[-1]]
        if isinstance(node, View) and self._route is None:
            return x.ids.reshape(node.outputs[0].shape)
        if isinstance(node, Total) and self._route is None:
            return _alike(x.ids)
        raise Blocked

    def _ids(self, value: Value) -> Ids:
        return self._values[value].ids if value in self._values else np.full(value.shape, -1)

    def _attention(self, node: Keep | Attention) -> None:
        """Values pass through; queries and keys would weigh otherwise. Some heads read the same values."""
        if isinstance(node, Keep):
            if node.k in self._values:
                raise Blocked
            return self._put(node.outputs[0], self._values[node.v].ids, self._values[node.v].power)
        if node.q in self._values:
            raise Blocked
        kept = self._values[node.kept]
        heads = node.q.shape[0] // kept.ids.shape[0]
        return self._put(node.outputs[0], kept.ids.repeat(heads, axis=0), kept.power)

    def _binary(self, node: Binary) -> None:
        x, y = (self._values.get(value) for value in (node.x, node.y))
        if node.function == "add":
            if x is None or y is None or not x.same(y):
                raise Blocked
            return self._put(node.outputs[0], x.ids, x.power)
        if x is not None and y is not None:
            raise Blocked
        scaled = x or y
        assert scaled is not None
        shape = node.outputs[0].shape
        return self._put(node.outputs[0], np.broadcast_to(scaled.ids, shape), scaled.power)

    def _vector(self, node: Vector) -> None:
        """A tensor with a number for each value takes the scales, or has them; one for all is no matter."""
        x, shape = self._values[node.x], self._tensors.shapes[node.tensor]
        size = math.prod(shape)
        if node.function == "mul" and size == 1:
            return self._put(node.outputs[0], x.ids, x.power)
        if size != node.x.width or self._route is not None or not self._tensors.are_own(node.tensor):
            raise Blocked
        if node.function == "mul":
            self.powers.add(x.power)
            self.consumers.append(Change(node.tensor, x.ids.reshape(shape), x.power))
            return None
        self.makers.append(Change(node.tensor, x.ids.reshape(shape), -x.power))
        return self._put(node.outputs[0], x.ids, x.power)

    def _linear(self, node: Linear) -> None:
        x = self._values.get(node.x)
        names = [matrix.tensor for matrix in node.matrices]
        if x is None or not self._tensors.are_own(*names) or {node.route, node.add} & self._values.keys():
            raise Blocked
        ids = self._columns(node, x)
        if any(len(self._tensors.shapes[name]) < 2 for name in names):
            raise Blocked
        self.powers.add(x.power)
        self.consumers += [Change(name, ids, x.power) for name in names]
        self.linears.append(node)

    def _columns(self, node: Linear, x: Scaled) -> Ids:
        """The ids of a matrix' columns."""
        if x.route is not None:
            if node.route is not x.route:
                raise Blocked
            experts = self._tensors.shapes[node.matrices[0].tensor][0]
            ids: Ids = np.where(x.ids[0] < 0, -1, x.ids[0] + x.stride * np.arange(experts)[:, None, None])
            return ids
        if node.per_head:
            return x.ids[:, None, :]
        return _alike(x.ids) if x.ids.ndim > 1 else x.ids


def _alike(ids: Ids) -> Ids:
    """Those of the first axis, which have to be the same."""
    first: Ids = ids[0]
    if not (ids == first).all():
        raise Blocked
    return first


def _is_square(node: Node) -> bool:
    return isinstance(node, Unary) and node.function == "relu2"

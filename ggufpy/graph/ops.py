"""Ops that work within a token: each notes a node, once the shapes of its inputs are checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ggufpy.errors import FormatError
from ggufpy.graph import nodes as n
from ggufpy.graph.keys import Keys
from ggufpy.graph.messages import Messages
from ggufpy.graph.nodes import Size
from ggufpy.graph.tensors import Shaped, Tensors
from ggufpy.graph.values import Function, Node, Value


@dataclass(frozen=True, slots=True)
class Experts:
    """A token's experts: their weights (slots, 1), by which Linear nodes find them. count: of all experts."""

    weights: Value
    count: int


class Ops(Tensors):
    """Nodes in the order of the code that makes them; a part of a network adds to those of the whole."""

    def __init__(
        self,
        keys: Keys,
        tensors: Mapping[str, Shaped],
        messages: Messages,
        prefix: str = "",
        whole: Ops | None = None,
    ) -> None:
        super().__init__(tensors, messages, prefix, whole.used if whole else None)
        self.keys = keys
        self.nodes: list[Node] = whole.nodes if whole else []
        self._whole = whole or self
        self._of_texts: set[Value] = whole._of_texts if whole else set()

    def _put(self, kind: type[Node], /, *shape: int, **fields: Any) -> Value:
        value = Value(shape, self._whole)
        node = kind(outputs=(value,), **fields)
        if node.rows == "texts" or self._of_texts.intersection(node.inputs):
            node = replace(node, rows="texts")
            self._of_texts.add(value)
        self.nodes.append(node)
        return value

    def _refuse(self, problem: str) -> FormatError:
        return FormatError(f"{self.keys.source}: {self._prefix}{problem}")

    def embed(
        self,
        name: str,
        width: int,
        by: Literal["token", "place", "first"] = "token",
        scale: float = 1.0,
        rows: int | None = None,
    ) -> Value:
        """One row of `name` per token: (width,); rows: how many it must have, None for any."""
        tensor = self.tensor(f"{name}.weight", rows, width)
        return self._put(n.Embed, width, tensor=tensor, by=by, scale=scale)

    def linear(self, x: Value, name: str, *, tied: str | None = None, outputs: int | None = None) -> Value:
        """X (inputs,) @ `name`.T + its bias, if it has one: (outputs,); without `name`, `tied` serves.

        outputs: how many there must be; None for as many as there are.
        """
        if tied and not self.has(f"{name}.weight"):
            name = tied
        outputs = outputs or self.shape(f"{name}.weight")[0]
        weight = self.tensor(f"{name}.weight", outputs, x.width)
        bias = self.optional(f"{name}.bias", outputs)
        return self._linear(name, x.flat(), (outputs,), weight, bias)

    def linear_of_experts(
        self, x: Value, name: str, experts: Experts, *, outputs: int | None = None
    ) -> Value:
        """X (inputs,) or (slots, inputs) through the matrices of the token's experts: (slots, outputs)."""
        outputs = outputs or self._three(f"{name}.weight")[1]
        count, weights = experts.count, experts.weights
        weight = self.tensor(f"{name}.weight", count, outputs, x.shape[-1])
        bias = self.optional(f"{name}.bias", count, outputs)
        shape = weights.shape[0], outputs
        scale = self.optional(f"{name}.scale", count)
        if scale is None:
            return self._linear(name, x, shape, weight, bias, route=weights)
        if bias:
            raise self._refuse(f"{name} has both a bias and a scale, which ggufpy does not know together")
        one = n.Matrix(scale, None)  # of one value for each expert
        ones = self._put(n.Affine, *weights.shape, x=weights, factor=0.0, offset=1.0)
        scales = self._put(n.Linear, *weights.shape, x=ones, matrices=(one,), route=weights)
        matrix = n.Matrix(weight, None)
        return self._put(n.Linear, *shape, x=x, matrices=(matrix,), route=weights) * scales

    def linear_of_heads(self, x: Value, name: str) -> Value:
        """Head i of x (heads, inputs) through matrix i of `name`: (heads, outputs)."""
        heads, outputs, _ = self._three(f"{name}.weight")
        weight = self.tensor(f"{name}.weight", x.shape[0], outputs, x.shape[1])
        return self._linear(name, x, (heads, outputs), weight, None, per_head=True)

    def _three(self, name: str) -> tuple[int, int, int]:
        shape = self.shape(name)
        if len(shape) != 3:
            raise self._messages.misshapen(self._prefix + name, shape, ("any",) * 3)
        return shape[0], shape[1], shape[2]

    def _linear(
        self, name: str, x: Value, shape: tuple[int, ...], weight: str, bias: str | None, **fields: Any
    ) -> Value:
        has_scale = self.has(f"{name}.scale") and self.shape(f"{name}.scale") == (1,)
        scale = self.tensor(f"{name}.scale", 1) if has_scale else None
        matrix = n.Matrix(weight, None if scale else bias)
        y = self._put(n.Linear, *shape, x=x, matrices=(matrix,), **fields)
        if scale:
            y = self._put(n.Vector, *shape, x=y, tensor=scale, function="mul")
            if bias:
                y = self._put(n.Vector, *shape, x=y, tensor=bias, function="add")
        return y

    def norm(
        self, x: Value, name: str | None = None, epsilon: float | None = None, size: Size = "rms"
    ) -> Value:
        """Norm over the last axis, with weight and bias `name`; epsilon: None for the metadata's."""
        weight = bias = None
        if name:
            shape = x.shape if self.shape(f"{name}.weight") == x.shape else x.shape[-1:]
            weight = self.tensor(f"{name}.weight", *shape)
            bias = self.optional(f"{name}.bias", *shape)
        if epsilon is None:
            epsilon = self._epsilon(size)
        return self._put(n.Norm, *x.shape, x=x, size=size, weight=weight, bias=bias, epsilon=epsilon)

    def _epsilon(self, size: Size) -> float:
        """That of the norm's kind; files of one kind may have it under the other's key, or under both."""
        keys = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")
        own, other = reversed(keys) if size == "layer" else keys
        return self.keys.number(own, self.keys.number(other) if self.keys.has(other) else None)

    def apply(self, x: Value, function: Function) -> Value:
        """function(x), value by value."""
        return self._put(n.Unary, *x.shape, x=x, function=function)

    def add(self, x: Value, y: Value | float) -> Value:
        """X + y; y: a number, or as wide as x, or with one value in the last axis."""
        if isinstance(y, Value):
            return self._binary(x, y, "add")
        return self._put(n.Affine, *x.shape, x=x, factor=1.0, offset=float(y))

    def multiply(self, x: Value, y: Value | float) -> Value:
        """X * y, as `add`."""
        if isinstance(y, Value):
            return self._binary(x, y, "mul")
        return self._put(n.Affine, *x.shape, x=x, factor=float(y), offset=0.0)

    def _binary(self, x: Value, y: Value, function: str) -> Value:
        if y.shape not in (x.shape, (*x.shape[:-1], 1)):
            raise self._refuse(f"values of shapes {x.shape} and {y.shape} cannot be put together")
        return self._put(n.Binary, *x.shape, x=x, y=y, function=function)

    def clamp(self, x: Value, low: float = -math.inf, high: float = math.inf) -> Value:
        """X, but not less than low nor more than high."""
        return self._put(n.Affine, *x.shape, x=x, factor=1.0, offset=0.0, low=low, high=high)

    def vector(self, x: Value, function: Literal["add", "mul"], name: str) -> Value:
        """X + or * a tensor with one value for each of x, of a head, for each head, or for all."""
        found = self.shape(name)
        size = math.prod(found)
        if size not in (x.width, x.shape[-1], x.shape[0], 1):
            named = self._messages.named(self._prefix + name)
            raise FormatError(f"{named} has shape {found}, which does not fit values of shape {x.shape}")
        return self._put(n.Vector, *x.shape, x=x, tensor=self.tensor(name, *found), function=function)

    def total(self, x: Value) -> Value:
        """The sum over the first axis."""
        return self._put(n.Total, *x.shape[1:], x=x)

    def view(self, x: Value, shape: tuple[int, ...]) -> Value:
        """The same values in another shape."""
        if math.prod(shape) != x.width:
            raise self._refuse(f"{x.width} values do not have the shape {shape}")
        return x if shape == x.shape else self._put(n.View, *shape, x=x)

    def slice(self, x: Value, part: slice) -> Value:
        """Values of the last axis, from .. to."""
        start, stop, step = part.indices(x.shape[-1])
        if step != 1 or stop <= start or (part.stop is not None and part.stop > x.shape[-1]):
            raise self._refuse(f"{x.shape[-1]} values have no part {part.start} to {part.stop}")
        return self._put(n.Slice, *x.shape[:-1], stop - start, x=x, start=start)

    def concat(self, *parts: Value) -> Value:
        """The parts one after the other in the last axis."""
        width = sum(part.shape[-1] for part in parts)
        return self._put(n.Concat, *parts[0].shape[:-1], width, parts=parts)

    def pool(self, x: Value, kind: Literal["mean", "first"]) -> Value:
        """One row for each text, and so is all that is made of it."""
        return self._put(n.Pool, *x.shape, x=x, kind=kind, rows="texts")

"""Tracing: an architecture's forward pass, written with a Graph, becomes a list of nodes.

Nothing is computed. Tensor shapes are checked here, once, for all architectures and for both doors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from ggufpy.errors import FormatError
from ggufpy.graph import nodes as n
from ggufpy.graph.alibi import slopes_of
from ggufpy.graph.keys import Keys
from ggufpy.graph.messages import Messages
from ggufpy.graph.nodes import Size
from ggufpy.graph.rope import Rope
from ggufpy.graph.values import Function, Node, Value


class Shaped(Protocol):
    """What tracing needs to know of a tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """In NumPy order: (outputs, inputs)."""
        ...


# What a forward pass gives, by name: "logits" of a language model, "embeddings" of its last hidden state.
Outputs = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Experts:
    """A token's experts: their weights (slots, 1), by which Linear nodes find them. count: of all experts."""

    weights: Value
    count: int


class Graph:
    """The forward pass as it is traced; `nodes` are in the order of the code, `used` the tensors they name.

    prefix: what all names of tensors begin with, "blk.N." in a layer. index: of the layer.
    """

    def __init__(
        self,
        keys: Keys,
        tensors: Mapping[str, Shaped],
        messages: Messages,
        *,
        prefix: str = "",
        root: Graph | None = None,
        n_ctx: int | None = None,
    ) -> None:
        self.keys = keys
        self._n_ctx = n_ctx
        self._tensors = tensors
        self._messages = messages
        self._prefix = prefix
        self._root = root or self
        self.nodes: list[Node] = root.nodes if root else []
        self.used: set[str] = root.used if root else set()
        self._tables: dict[Any, Value] = root._tables if root else {}
        self._of_texts: set[Value] = root._of_texts if root else set()

    @classmethod
    def trace(
        cls,
        metadata: Mapping[str, Any],
        tensors: Mapping[str, Shaped],
        source: str,
        messages: Messages | None = None,
        n_ctx: int | None = None,
    ) -> Graph:
        """An empty graph for a file's metadata and tensors; errors name `source`. n_ctx: see `context`."""
        keys = Keys(metadata, source)
        return cls(keys, tensors, messages or Messages(source, keys.architecture), n_ctx=n_ctx)

    @property
    def context(self) -> int:
        """How long texts may be: as was asked for, or as the model was made for."""
        return self._root._n_ctx or self.keys.integer("context_length")

    def layers(self, count: int) -> Iterator[Layer]:
        """The blocks, in order."""
        for index in range(count):
            yield Layer(self, index)

    def skip_layers(self, start: int, stop: int) -> None:
        """Tensors of blocks that are there for other purposes than the network's result."""
        beginnings = tuple(f"blk.{index}." for index in range(start, stop))
        self.used.update(name for name in self._tensors if name.startswith(beginnings))

    def check_all_used(self) -> None:
        """Raise UnsupportedModelError for a tensor or a key of the file that nothing used."""
        unused = [name for name in self._tensors if name not in self.used]
        if unused:
            raise self._messages.unused(unused)
        keeps = [node for node in self.nodes if isinstance(node, n.Keep)]
        self.keys.check_all_read(
            attends=bool(keeps),
            turns=any(isinstance(node, n.Rotate) for node in self.nodes),
            has_windows=any(node.window is not None for node in keeps),
            scans=any(isinstance(node, n.Scan | n.DeltaRule) for node in self.nodes),
        )

    # ---- Tensors ----

    def has(self, name: str) -> bool:
        """Whether the file has a tensor of this name."""
        return self._prefix + name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; raises FormatError if it is missing or empty."""
        full = self._prefix + name
        if full not in self._tensors:
            raise self._messages.missing(full)
        found = self._tensors[full].shape
        if 0 in found:
            raise FormatError(f"{self._messages.named(full)} is empty, its shape is {found}")
        return found

    def tensor(self, name: str, *shape: int | None) -> str:
        """Note that a tensor is used; raises FormatError if it is missing or not `shape` (None: any)."""
        found = self.shape(name)
        if len(found) != len(shape) or any(
            want not in (None, have) for want, have in zip(shape, found, strict=True)
        ):
            wanted = ["any" if size is None else size for size in shape]
            raise self._messages.misshapen(self._prefix + name, found, wanted)
        self.used.add(self._prefix + name)
        return self._prefix + name

    def optional(self, name: str, *shape: int | None) -> str | None:
        """As `tensor`, or None if the file has none of this name."""
        return self.tensor(name, *shape) if self.has(name) else None

    def ignore(self, *names: str) -> None:
        """Tensors that the architecture knows and does not need."""
        self.used.update(self._prefix + name for name in names if self.has(name))

    # ---- Ops ----

    def _put(self, kind: type[Node], /, *shape: int, **fields: Any) -> Value:
        value = Value(shape, self._root)
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

    def rope(self, x: Value, rope: Rope, factors: str | None = None, sections: tuple[int, ...] = ()) -> Value:
        """Turn pairs of the first values of each head. factors: a tensor that may divide the angles."""
        if x.shape[-1] < rope.dimensions:
            raise self._refuse(f"heads of {x.shape[-1]} values cannot turn {rope.dimensions}")
        divisors = self._root.optional(factors, rope.dimensions // 2) if factors else None
        key = (rope, divisors, sections)
        if key not in self._tables:
            self._tables[key] = self._put(
                n.RopeTable, rope.dimensions, rope=rope, factors=divisors, sections=sections
            )
        return self._put(n.Rotate, *x.shape, x=x, table=self._tables[key], rope=rope)

    def keep(self, k: Value, v: Value, window: int | None = None) -> Value:
        """Let k (heads, n) and v (heads, m) enter the state; `attention` reads the result."""
        if k.shape[0] != v.shape[0]:
            raise self._refuse(f"{k.shape[0]} heads of keys and {v.shape[0]} of values")
        return self._put(n.Keep, k.shape[0], k.shape[1] + v.shape[1], k=k, v=v, window=window)

    def attention(
        self,
        q: Value,
        kept: Value,
        *,
        scale: float | None = None,
        softcap: float = 0.0,
        sinks: str | None = None,
        max_bias: float = 0.0,
        causal: bool = True,
        temperature: float = 0.0,
        temperature_length: int = 1,
        temperature_offset: int = 0,
        chunk: int = 0,
    ) -> Value:
        """Attention of q (heads, n) over what was kept: (heads, m). scale: None for n ** -0.5.

        max_bias: of ALiBi, 0 for none.
        """
        keep = next(node for node in reversed(self.nodes) if node.outputs == (kept,))
        assert isinstance(keep, n.Keep)
        if q.shape[1] != keep.k.shape[1] or q.shape[0] % keep.k.shape[0]:
            raise self._refuse(
                f"attention: {q.shape[0]} heads of {q.shape[1]} values do not fit "
                f"{keep.k.shape[0]} of {keep.k.shape[1]}"
            )
        return self._put(
            n.Attention,
            q.shape[0],
            keep.v.shape[1],
            q=q,
            kept=kept,
            scale=q.shape[1] ** -0.5 if scale is None else scale,
            softcap=softcap,
            sinks=self.tensor(sinks, q.shape[0]) if sinks else None,
            slopes=slopes_of(q.shape[0], max_bias) if max_bias else (),
            causal=causal,
            temperature=temperature,
            temperature_length=temperature_length,
            temperature_offset=temperature_offset,
            chunk=chunk,
        )

    def route(
        self,
        logits: Value,
        slots: int,
        *,
        gating: Literal["softmax", "sigmoid", "chosen", "sparsemixer"] = "softmax",
        jitter: float = 0.0,
        normalize: bool = False,
        scale: float = 1.0,
        bias: str | None = None,
        groups: int = 1,
        groups_used: int = 1,
        group_best: int = 2,
    ) -> Experts:
        """Choose `slots` experts by their logits (experts,). bias: a tensor, if it is there."""
        if slots > logits.width:
            raise self._refuse(f"{slots} experts cannot be used of {logits.width}")
        tensor = self.optional(bias, logits.width) if bias else None
        weights = self._put(
            n.Route,
            slots,
            1,
            logits=logits,
            bias=tensor,
            gating=gating,
            jitter=jitter,
            normalize=normalize,
            scale=scale,
            groups=groups,
            groups_used=groups_used,
            group_best=group_best,
        )
        return Experts(weights, logits.width)

    def conv(self, x: Value, name: str) -> Value:
        """Each channel of x with its own weights over the last places."""
        size = self.shape(f"{name}.weight")[-1]
        if size < 2:
            raise self._refuse(f"{name}.weight looks at no earlier place, its shape ends in {size}")
        tensor = self.tensor(f"{name}.weight", x.width, size)
        bias = self.optional(f"{name}.bias", x.width)
        return self._put(n.Conv, x.width, x=x, tensor=tensor, bias=bias, size=size)

    def scan(self, x: Value, dt: Value, b: Value, c: Value, a: str) -> Value:
        """Mamba's state space: x (heads, n), dt (heads,), b and c (groups, m): (heads, n)."""
        states = self.shape(a)[-1]
        if states not in (1, b.shape[1]) or x.shape[0] % b.shape[0] or b.shape != c.shape:
            raise self._refuse(f"{a} has shape {self.shape(a)}, b {b.shape} and c {c.shape}: no state fits")
        if dt.width != x.shape[0]:
            raise self._refuse(f"{dt.width} time steps for {x.shape[0]} heads")
        return self._put(n.Scan, *x.shape, x=x, dt=dt, b=b, c=c, a=self.tensor(a, x.shape[0], states))

    def delta_rule(self, q: Value, k: Value, v: Value, beta: Value, decay: Value) -> Value:
        """Gated delta rule: q, k (groups, n), v (heads, m), beta and decay (heads,): (heads, m)."""
        if q.shape != k.shape or v.shape[0] % q.shape[0] or {beta.width, decay.width} != {v.shape[0]}:
            raise self._refuse(f"delta rule: q {q.shape}, k {k.shape}, v {v.shape}: no state fits")
        return self._put(n.DeltaRule, *v.shape, q=q, k=k, v=v, beta=beta, decay=decay)


class Layer(Graph):
    """One block of a graph: names of tensors are those of GGUF without "blk.N."."""

    def __init__(self, graph: Graph, index: int) -> None:
        super().__init__(graph.keys, graph._tensors, graph._messages, prefix=f"blk.{index}.", root=graph)
        self.index = index
